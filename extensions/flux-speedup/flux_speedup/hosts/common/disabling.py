"""The WebUI's own list of disabled extensions: its installers are skipped for what is on it. Only when asked to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...pruning.decision import Decision
from ...pruning.disabled import Remembered
from .inside import Refused
from .options import flags, opts

OPTION = "disabled_extensions"


def candidates(decision: Decision | None) -> list[str]:
    """Folder names of builtin extensions all of whose scripts are left out."""
    if decision is None:
        return []
    from modules import extensions

    return [
        e.name for e in extensions.extensions if e.is_builtin and e.enabled and e.path in decision.folders
    ]


def disable(decision: Decision | None, folder: Path | None) -> list[str]:
    """Add them to the WebUI's list and save it; what was added is remembered first. Raises Refused."""
    found = _changeable()
    remembered = Remembered(folder)
    listed = list(getattr(found, OPTION))
    new = [name for name in dict.fromkeys(candidates(decision)) if name not in listed]
    if new:
        before = remembered.names()
        _remember(remembered, [*before, *new])
        try:
            _save(found, [*listed, *new])
        except Refused:
            _remember(remembered, list(before))
            raise
    return new


def undo(folder: Path | None) -> list[str]:
    """Take what was added from the WebUI's list again and save it. Raises Refused."""
    found = _changeable()
    remembered = Remembered(folder)
    ours, listed = remembered.names(), list(getattr(found, OPTION))
    _save(found, [name for name in listed if name not in ours])
    _remember(remembered, [])
    return [name for name in ours if name in listed]


def why_not() -> str:
    """Why the list may not be changed here, or ""."""
    arguments = flags()
    if getattr(arguments, "freeze_settings", False):
        return "the settings are frozen (--freeze-settings)"
    if getattr(arguments, "disable_extension_access", False):
        return "access to extensions is disabled, as the WebUI does when it is reachable from elsewhere"
    if OPTION not in getattr(opts(), "data_labels", ()):
        return "this WebUI has no list of disabled extensions"
    return ""


def _changeable() -> Any:
    why = why_not()
    if why:
        raise Refused(why)
    return opts()


def _save(found: Any, names: list[str]) -> None:
    from modules import shared

    before = list(getattr(found, OPTION))
    try:
        found.set(OPTION, names)
        if list(getattr(found, OPTION)) != names:
            raise Refused("the WebUI did not take the list")
        found.save(shared.config_filename)
    except (AssertionError, OSError, TypeError) as error:
        found.data[OPTION] = before
        raise Refused(f"the WebUI did not save its list: {error}") from error


def _remember(remembered: Remembered, names: list[str]) -> None:
    try:
        remembered.write(names)
    except OSError as error:
        raise Refused(f"what was added cannot be remembered: {error}") from error
