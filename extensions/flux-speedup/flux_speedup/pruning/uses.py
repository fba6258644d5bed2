"""Where the user's own defaults and settings select a script: each answer is the reason to keep it, or ""."""

from __future__ import annotations

from collections.abc import Mapping

from .catalog import Entry
from .surroundings import Surroundings

# The setting that puts operations of the Extras tab onto the main pages. Whatever else a setting says, no script
# is chosen by it: that its text equals a title (a model for restoring faces, a file name) means nothing.
IN_MAIN_PAGES = "postprocessing_enable_in_main_ui"
NONE = ("", "none", "passthrough")


def small_card(entry: Entry, here: Surroundings) -> str:
    """The rescue of a small card."""
    if entry.stem == "forge_never_oom" and here.small_card:
        return "a small card may need it"
    return ""


def controlnet_weight(entry: Entry, here: Surroundings) -> str:
    """ControlNet with a weight is there to be used."""
    if entry.stem == "controlnet" and here.controlnet_weight:
        return f"there is a ControlNet weight, {here.controlnet_weight}"
    return ""


def adetailer_controlnet(entry: Entry, here: Surroundings) -> str:
    """ADetailer's own use of ControlNet, chosen as the page's default."""
    if entry.stem != "controlnet":
        return ""
    for key, value in here.ui_defaults.items():
        words = key.lower().split("/")
        if (
            "adetailer.py" in key.lower()
            and words[-1] == "value"
            and words[-2].startswith("controlnet model")
        ):
            chosen = str(value or "")
            if chosen.lower() not in NONE:
                return f"ADetailer's default is the ControlNet model {chosen}"
    return ""


def ui_default(entry: Entry, here: Surroundings) -> str:
    """ui-config.json turns it on, or selects something that it provides."""
    for key, value in here.ui_defaults.items():
        path = key.split("/")
        if path[-1] != "value" or len(path) < 3:
            continue
        if value is True and _is_switch(entry, path):
            return f"the page's defaults turn it on ({key})"
        if isinstance(value, str) and _is_chosen(entry, path[-2], value, here):
            return f"the page's defaults select it ({key})"
    return ""


def saved_setting(entry: Entry, here: Surroundings) -> str:
    """A saved setting selects something that it provides."""
    for key, value in here.options.items():
        texts = _texts(value)
        if key == IN_MAIN_PAGES and entry.postprocessing.lower() in {text.lower() for text in texts} - {""}:
            return f"the setting {key} selects it"
        if _names_upscaler(key) and any(is_upscaler_of(entry, text, here.upscalers) for text in texts):
            return f"the setting {key} selects it"
    return ""


RULES = (small_card, controlnet_weight, adetailer_controlnet, ui_default, saved_setting)


def reason(entry: Entry, here: Surroundings) -> str:
    """The first reason to keep a script that nobody has to know of, or ""."""
    return next((why for rule in RULES if (why := rule(entry, here))), "")


def is_upscaler_of(entry: Entry, name: str, upscalers: Mapping[str, frozenset[str]]) -> bool:
    """Whether this script provides the upscaler `name`."""
    first = name.split(" ", 1)[0].lower()
    return first in (word.lower() for word in entry.upscalers) or name in upscalers.get(entry.stem, ())


def _is_chosen(entry: Entry, label: str, value: str, here: Surroundings) -> bool:
    """Whether the page's component `label` chooses this script, or an upscaler of it."""
    if label.lower() == "script":
        return value.lower() in {title.lower() for title in entry.titles}
    return _names_upscaler(label) and is_upscaler_of(entry, value, here.upscalers)


def _names_upscaler(key: str) -> bool:
    return "upscaler" in key.lower()


def _is_switch(entry: Entry, path: list[str]) -> bool:
    own = path[0] == "customscript" and path[1].lower() == f"{entry.stem}.py"
    if path[0] == "customscript" and not own:
        return False
    label = "/".join(path[3 if own else 1 : -1]).lower()
    if own and label.startswith("enable"):
        return True
    switches = (*entry.titles, entry.postprocessing, *entry.switches)
    return any(label.startswith(name.lower()) for name in switches if name)


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, (list, tuple)):
        return tuple(text for text in value if isinstance(text, str))
    return ()
