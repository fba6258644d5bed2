"""What of ours is in the WebUI's settings, and how it leaves them: the user's choices on our Settings page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...configuration.config import AS_CONFIGURED
from ...configuration.sources import OPTION_PREFIX
from ...pruning.disabled import Remembered
from . import disabling


def remove(folder: Path | None) -> tuple[list[str], list[str]]:
    """(options removed, extensions enabled again), saved. Raises disabling.Refused: then nothing is changed.

    `folder`: where it is remembered which extensions we disabled.
    """
    from modules import shared

    opts = shared.opts
    if getattr(shared.cmd_opts, "freeze_settings", False):
        raise disabling.Refused("the settings are frozen (--freeze-settings)")
    enabled = disabling.undo(folder) if Remembered(folder).names() else []
    before: dict[str, Any] = {key: opts.data[key] for key in opts.data if key.startswith(OPTION_PREFIX)}
    for key in before:
        del opts.data[key]
    try:
        # Also where none is set: a file that was written while ours was switched off may have them.
        opts.save(shared.config_filename)
    except (AssertionError, OSError, TypeError) as error:
        opts.data.update(before)
        raise disabling.Refused(f"the WebUI did not save its settings: {error}") from error
    return sorted(key for key, value in before.items() if value != AS_CONFIGURED), enabled
