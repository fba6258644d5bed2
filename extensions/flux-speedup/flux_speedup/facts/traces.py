"""Everything that this extension has left in the WebUI's data folder, and how it goes: before it is removed."""

from __future__ import annotations

import logging
import shutil

from ..hosts.common import disabling, traces
from ..hosts.common.webui import WebUI
from .view import Refused

log = logging.getLogger("flux_speedup")
NOTHING = "Nothing of ours is in the WebUI's settings"


def remove(host: WebUI) -> list[str]:
    """Take ours out of the WebUI's settings and its list of disabled extensions; what went, in words.

    Raises Refused: then nothing is changed.
    """
    try:
        removed, enabled = traces.remove(host.cache_folder())
    except disabling.Refused as why:
        raise Refused(str(why)) from why
    said = [f"Removed from the WebUI's settings: {', '.join(removed)}" if removed else NOTHING]
    if enabled:
        said.append(f"enabled again from the next start on: {', '.join(enabled)}")
    return said


def delete_folder(host: WebUI) -> list[str]:
    """Delete our own folder with the statistics, once whoever writes there has ended; what went, in words."""
    folder = host.cache_folder()
    try:
        if folder is None or not folder.is_dir():
            return []
        shutil.rmtree(folder)
    except OSError as error:
        return [f"{folder} could not be deleted ({error})"]
    return [f"deleted: {folder}"]


def told(said: list[str]) -> str:
    """All of it as a sentence, for the log too."""
    text = "; ".join(said)
    log.info("%s", text)
    return f"{text}. Now delete the extension's folder, and restart the WebUI."
