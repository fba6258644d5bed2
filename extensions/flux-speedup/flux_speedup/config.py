"""What the user asked for: typed, validated, and with the winning source of every key.

The sources come in as plain mappings (config_sources.py reads them), highest precedence first. A value
that does not fit is one sentence naming source, key, value and what is allowed; the next source decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from .pruning.catalog import LEFT_OUT

Value = str | int | float | bool | None | tuple[str, ...]
MAX_NAMES = 500
MAX_NAME = 200
AS_CONFIGURED = "as configured"
SECTIONS = ("catalog",)
"""Keys of the files that another room reads."""


class BadValue(ValueError):
    """A value does not fit its key; the message says what is allowed."""


@dataclass(frozen=True)
class Switch:
    """on or off."""

    allowed = "on or off"

    def parse(self, value: object) -> bool:
        if isinstance(value, bool):
            return value
        known = {
            "on": True,
            "true": True,
            "1": True,
            "yes": True,
            "off": False,
            "false": False,
            "0": False,
            "no": False,
        }
        if isinstance(value, str) and value.strip().lower() in known:
            return known[value.strip().lower()]
        raise BadValue(self.allowed)


@dataclass(frozen=True)
class Choice:
    """One of a few words; `on` is another name for the first."""

    words: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return "one of " + ", ".join(self.words)

    def parse(self, value: object) -> str:
        if value is True or (isinstance(value, str) and value.strip().lower() == "on"):
            return self.words[0]
        if value is False:
            value = "off"
        if isinstance(value, str) and value.strip().lower() in self.words:
            return value.strip().lower()
        raise BadValue(self.allowed)


@dataclass(frozen=True)
class Number:
    """A number within bounds; `whole` for counts, `optional` where null means: leave it alone."""

    low: float
    high: float
    whole: bool = False
    optional: bool = False

    @property
    def allowed(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} from {self.low:g} to {self.high:g}" + (", or null" if self.optional else "")

    def parse(self, value: object) -> float | int | None:
        if self.optional and (
            value is None or (isinstance(value, str) and value.strip().lower() in ("null", "none"))
        ):
            return None
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                raise BadValue(self.allowed) from None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BadValue(self.allowed)
        # NaN fails both comparisons.
        if not self.low <= value <= self.high or (self.whole and value != int(value)):
            raise BadValue(self.allowed)
        return int(value) if self.whole else float(value)


@dataclass(frozen=True)
class Names:
    """A list of names; in a flag or an environment variable one text, separated by commas."""

    allowed = "a list of names, or names separated by commas"

    def parse(self, value: object) -> tuple[str, ...]:
        if isinstance(value, str):
            value = value.split(",")
        if not isinstance(value, (list, tuple)) or len(value) > MAX_NAMES:
            raise BadValue(self.allowed)
        if not all(isinstance(name, str) and len(name) <= MAX_NAME and name.isprintable() for name in value):
            raise BadValue(self.allowed)
        return tuple(dict.fromkeys(name.strip() for name in value if name.strip()))


@dataclass(frozen=True)
class Seconds:
    """A time within bounds, with or without its unit ("5 s"); `off` is another name for 0."""

    low: float
    high: float

    @property
    def allowed(self) -> str:
        return f"a number of seconds from {self.low:g} to {self.high:g}, or off"

    def parse(self, value: object) -> float:
        if value is False:
            return 0.0
        if isinstance(value, str):
            text = value.strip().lower()
            value = 0.0 if text == "off" else text.removesuffix("s").strip()
        try:
            return float(Number(self.low, self.high).parse(value) or 0.0)
        except BadValue:
            raise BadValue(self.allowed) from None


Kind = Switch | Choice | Number | Names | Seconds
GROUP_WORDS = ("auto", "keep", "leave out")


@dataclass(frozen=True)
class Config:
    """Every key with its default, the same as in config.json. GiB = 2^30 bytes, as card makers count."""

    enabled: bool = True
    tier: str = "auto"
    large_tier_over_gib: float = 50.0
    large_tier_inference_share: float = 0.25
    large_tier_swap_divisor: float = 1.15
    large_tier_swap_reserve_gib: float = 2.0
    large_tier_low_vram_below_gib: float = -1.0
    large_tier_process_share: float = 0.95
    standard_tier_inference_share: float | None = None
    pinning: bool = True
    streams: bool = True
    attention_kernels: bool = True
    allocator: bool = True
    cudnn_benchmark: bool = False
    weights: bool = True
    direct: str = "auto"
    checkpoints: bool = True
    checkpoints_kept: int = 4
    checkpoints_ram_gib: float = 8.0
    needless_unloads: bool = True
    read_ahead: bool = True
    digest: bool = True
    fast_callbacks: bool = True
    local_models: bool = True
    fetch_at_start: bool = False
    lazy_apps: bool = True
    pruning: bool = True
    left_out: tuple[str, ...] = LEFT_OUT
    keep: tuple[str, ...] = ()
    group_controlnet: str = "auto"
    group_ip_adapter: str = "auto"
    group_guidance: str = "auto"
    group_hires: str = "auto"
    group_upscalers: str = "auto"
    group_batch: str = "auto"
    statistics: bool = True
    statistics_rows: int = 10_000
    requests: bool = True
    load_in_infotext: bool = False
    refresh_s: float = 5.0
    translations: bool = True


KINDS: dict[str, Kind] = {
    "enabled": Switch(),
    "tier": Choice(("auto", "large", "standard", "off")),
    "large_tier_over_gib": Number(0, 4096),
    "large_tier_inference_share": Number(0.05, 0.95),
    "large_tier_swap_divisor": Number(1, 4),
    "large_tier_swap_reserve_gib": Number(0, 64),
    "large_tier_low_vram_below_gib": Number(-64, 0),
    "large_tier_process_share": Number(0.5, 1),
    "standard_tier_inference_share": Number(0.05, 0.95, optional=True),
    "pinning": Switch(),
    "streams": Switch(),
    "attention_kernels": Switch(),
    "allocator": Switch(),
    "cudnn_benchmark": Switch(),
    "weights": Switch(),
    "direct": Choice(("on", "auto", "off")),
    "checkpoints": Switch(),
    "checkpoints_kept": Number(1, 64, whole=True),
    "checkpoints_ram_gib": Number(0, 4096),
    "needless_unloads": Switch(),
    "read_ahead": Switch(),
    "digest": Switch(),
    "fast_callbacks": Switch(),
    "local_models": Switch(),
    "fetch_at_start": Switch(),
    "lazy_apps": Switch(),
    "pruning": Switch(),
    "left_out": Names(),
    "keep": Names(),
    "group_controlnet": Choice(GROUP_WORDS),
    "group_ip_adapter": Choice(GROUP_WORDS),
    "group_guidance": Choice(GROUP_WORDS),
    "group_hires": Choice(GROUP_WORDS),
    "group_upscalers": Choice(GROUP_WORDS),
    "group_batch": Choice(GROUP_WORDS),
    "statistics": Switch(),
    "statistics_rows": Number(100, 10_000, whole=True),
    "requests": Switch(),
    "load_in_infotext": Switch(),
    "refresh_s": Seconds(0, 3600),
    "translations": Switch(),
}


@dataclass(frozen=True)
class Source:
    """Values by key from one place; `name` is shown to people ("command line", a file's path)."""

    name: str
    values: Mapping[str, object]


@dataclass(frozen=True)
class Loaded:
    """The configuration in force, where each key came from, and what was wrong on the way."""

    config: Config
    origin: Mapping[str, str]
    problems: tuple[str, ...]


def load(sources: Iterable[Source]) -> Loaded:
    """Take each key from the first source that has a fitting value, else its default."""
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    problems: list[str] = []
    for source in sources:
        for key, raw in source.values.items():
            if raw == AS_CONFIGURED or key in SECTIONS:
                continue
            kind = KINDS.get(key)
            if kind is None:
                problems.append(f"{source.name}: unknown key {key!r} = {raw!r}; it is ignored")
                continue
            try:
                value = kind.parse(raw)
            except BadValue as allowed:
                problems.append(
                    f"{source.name}: {key} = {raw!r} is not {allowed}; the next source or the default is used"
                )
                continue
            if key not in values:
                values[key] = value
                origin[key] = source.name
    for field in fields(Config):
        origin.setdefault(field.name, "built-in default")
    return Loaded(Config(**values), origin, tuple(problems))
