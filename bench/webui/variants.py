"""What is compared: the WebUI with this extension, by itself, and by itself with its own flags for small cards."""

from __future__ import annotations

from dataclasses import dataclass

TUNED = ("--cuda-stream", "--pin-shared-memory")


@dataclass(frozen=True)
class Variant:
    name: str
    extension: bool
    flags: tuple[str, ...] = ()


KNOWN = {
    "ours": Variant("ours", True),
    "alone": Variant("alone", False),
    "alone-tuned": Variant("alone-tuned", False, TUNED),
    "ours-tuned": Variant("ours-tuned", True, TUNED),
}


def variant(text: str) -> Variant:
    """A known name, with keys of the configuration after it: `ours+streams=off+direct=off`."""
    name, *settings = text.split("+")
    if name not in KNOWN:
        raise ValueError(f"no variant {name!r}; there are {', '.join(KNOWN)}")
    base = KNOWN[name]
    if settings and not base.extension:
        raise ValueError(f"{text!r}: {name} has no extension to configure")
    more: list[str] = []
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"{text!r}: {setting!r} is no KEY=VALUE")
        more += ["--flux-speedup-" + key.replace("_", "-"), value]
    return Variant(text, base.extension, (*base.flags, *more))
