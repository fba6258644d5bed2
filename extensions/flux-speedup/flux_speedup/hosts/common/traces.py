"""Everything that this extension has left in the WebUI's data folder, and how it goes: before it is removed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ...configuration.config import AS_CONFIGURED
from ...configuration.sources import OPTION_PREFIX
from ...pruning.disabled import Remembered
from . import disabling
from .inside import Refused

NOTHING = "Nothing of ours is in the WebUI's settings"


def remove(folder: Path | None) -> list[str]:
    """Take ours out of the WebUI's settings and its list of disabled extensions; what went, in words.

    `folder`: our own. Raises Refused: then nothing is changed.
    """
    from modules import shared

    opts = shared.opts
    if getattr(shared.cmd_opts, "freeze_settings", False):
        raise Refused("the settings are frozen (--freeze-settings)")
    enabled = disabling.undo(folder) if Remembered(folder).names() else []
    before: dict[str, Any] = {key: opts.data[key] for key in opts.data if key.startswith(OPTION_PREFIX)}
    for key in before:
        del opts.data[key]
    try:
        # Also where none is set: a file that was written while ours was switched off may have them.
        opts.save(shared.config_filename)
    except (AssertionError, OSError, TypeError) as error:
        opts.data.update(before)
        raise Refused(f"the WebUI did not save its settings: {error}") from error
    removed = sorted(key for key, value in before.items() if value != AS_CONFIGURED)
    said = [f"Removed from the WebUI's settings: {', '.join(removed)}" if removed else NOTHING]
    return [*said, f"enabled again from the next start on: {', '.join(enabled)}"] if enabled else said


def delete(folder: Path | None) -> list[str]:
    """Delete our own folder with the statistics, once whoever writes there has ended; what went, in words."""
    try:
        if folder is None or not folder.is_dir():
            return []
        shutil.rmtree(folder)
    except OSError as error:
        return [f"{folder} could not be deleted ({error})"]
    return [f"deleted: {folder}"]
