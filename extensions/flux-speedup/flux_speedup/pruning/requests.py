"""API requests that need what is left out: refused by name; those that only seem to need it are served. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .catalog import GROUPS, Entry
from .decision import Decision
from .uses import NONE, is_upscaler_of

SETTINGS = "Settings > Flux Speedup"


@dataclass(frozen=True)
class Asked:
    """The fields of a generation request that can name a script or an upscaler; None where it has none.

    settings: the saved settings with the request's own over them. available: upscalers that are there.
    """

    script: str | None = None
    always_on: Mapping[str, object] | None = None
    hires_upscaler: str | None = None
    img2img: bool = False
    settings: Mapping[str, object] | None = None
    infotext: Mapping[str, object] | None = None
    available: frozenset[str] = frozenset()


def refusal(asked: Asked, decision: Decision) -> str | None:
    """Why the request cannot be served as it is meant, or None."""
    for entry in decision.entries():
        what = (
            _by_title(entry, asked)
            or _by_upscaler(entry, asked, decision)
            or _by_infotext(entry, asked.infotext or {})
        )
        if what:
            return sentence(entry, what, decision)
    if "controlnet" in decision.left_out:
        model = adetailer_model(asked.always_on or {})
        if model:
            return sentence(_entry(decision, "controlnet"), f"ad_controlnet_model {model!r}", decision)
    return None


def extras_refusal(fields: Mapping[str, object], available: frozenset[str], decision: Decision) -> str | None:
    """The same for the Extras requests; `fields` by their names in the API."""
    for entry in decision.entries():
        weight = fields.get(f"{entry.postprocessing.lower()}_visibility") if entry.postprocessing else None
        if isinstance(weight, (int, float)) and weight > 0:
            return sentence(entry, f"{entry.postprocessing} with visibility {weight:g}", decision)
        used = [fields.get("upscaler_1")]
        if fields.get("extras_upscaler_2_visibility"):
            used.append(fields.get("upscaler_2"))
        for name in used:
            if _missing_upscaler(entry, name, available, decision):
                return sentence(entry, f"upscaler {name!r}", decision)
    return None


def sentence(entry: Entry, what: str, decision: Decision) -> str:
    """What is needed, why it is not there, and what brings it back."""
    if entry.stem in decision.disabled:
        return (
            f"{what} needs {entry.shown}, which is disabled in the WebUI ({entry.stem}). To bring it back: "
            f'{SETTINGS}, "Undo: enable them again", then restart.'
        )
    group = GROUPS.get(entry.group)
    choice = f'"{group}": keep' if group else f'add "{entry.stem}" to "keep" in flux-speedup.json'
    return (
        f"{what} needs {entry.shown}, which Flux Speedup did not load ({entry.stem}). To bring it back: "
        f'{SETTINGS}, {choice}, or the flag --flux-speedup-keep {entry.stem}; then "Reload UI" or restart.'
    )


def without_idle(always_on: Mapping[str, object], decision: Decision) -> dict[str, object]:
    """The always-on scripts of a request less those that are left out and turned off in it."""
    left_out = {title.lower(): entry for entry in decision.entries() for title in entry.titles}
    return {
        name: given
        for name, given in always_on.items()
        if name.lower() not in left_out or _turned_on(left_out[name.lower()], given)
    }


def adetailer_model(always_on: Mapping[str, object]) -> str:
    """The ControlNet model that a request sends through ADetailer, or ""."""
    for name, given in always_on.items():
        if name.lower() != "adetailer":
            continue
        arguments = _arguments(given)
        if arguments and arguments[0] is False:
            continue
        for tab in arguments:
            if isinstance(tab, Mapping) and tab.get("ad_tab_enable", True):
                model = str(tab.get("ad_controlnet_model") or "")
                if model.lower() not in NONE:
                    return model
    return ""


def _by_title(entry: Entry, asked: Asked) -> str:
    titles = {title.lower() for title in entry.titles}
    if asked.script and asked.script.lower() in titles:
        return f"script {asked.script!r}"
    for name, given in (asked.always_on or {}).items():
        if name.lower() in titles and _turned_on(entry, given):
            return f"always-on script {name!r}"
    return ""


def _by_upscaler(entry: Entry, asked: Asked, decision: Decision) -> str:
    wanted = [asked.hires_upscaler]
    if asked.img2img:
        wanted.append((asked.settings or {}).get("upscaler_for_img2img"))  # type: ignore[arg-type]
    for name in wanted:
        if _missing_upscaler(entry, name, asked.available, decision):
            return f"upscaler {name!r}"
    return ""


def _by_infotext(entry: Entry, parameters: Mapping[str, object]) -> str:
    for key, value in parameters.items():
        off = value in (None, "", False) or str(value).lower() == "false"
        if not off and any(key == name or _numbered(key, name) for name in entry.infotext):
            return f"the infotext's {key!r}"
    return ""


def _numbered(key: str, name: str) -> bool:
    return name.endswith(" ") and key.startswith(name) and key[len(name) :].isdigit()


def _missing_upscaler(entry: Entry, name: object, available: frozenset[str], decision: Decision) -> bool:
    if not isinstance(name, str) or not name or name in available:
        return False
    return is_upscaler_of(entry, name, decision.upscalers)


def _arguments(given: object) -> list[object]:
    arguments = given.get("args") if isinstance(given, Mapping) else given
    if isinstance(arguments, Mapping):
        return [arguments]
    return list(arguments) if isinstance(arguments, (list, tuple)) else []


def _turned_on(entry: Entry, given: object) -> bool:
    """Whether a script with these arguments does anything: a unit says so itself, others by their first."""
    arguments = _arguments(given)
    units = [unit for unit in arguments if isinstance(unit, Mapping)]
    if units:
        # A unit that does not say is on: so do the WebUIs read it.
        return any(unit.get("enabled", True) for unit in units)
    return any(arguments if entry.any_switch else arguments[:1])


def _entry(decision: Decision, stem: str) -> Entry:
    return next(entry for entry in decision.entries() if entry.stem == stem)
