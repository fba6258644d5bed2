"""A process that begins with the sha256 of one file before the WebUI itself can.

It ends with that, or with the WebUI. Its result goes where every digest goes. As long as its lock is held it is at
work: the system lets go of that however it ends.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ...storage import json_file, whole_file
from ...storage.file_lock import is_locked, locked
from ...storage.sidecar import Place, Sidecar, Stamp
from .digest_pass import Pieces, pieces

DIGESTS = "digests.json"
_WORK, _LOCK = "hashing.json", "hashing.lock"
_LOOK_S = 1.0


class Another(Exception):
    """A process is at work there."""


def is_at_work(folder: Path | None, path: Path) -> bool:
    """Whether a process that was started for this folder hashes this file now, links followed."""
    if folder is None or not is_locked(folder / _LOCK):
        return False
    try:
        return bool(json_file.read(folder / _WORK).get("path") == str(path))
    except (OSError, ValueError):
        return False


def work(path: Path, folder: Path, wanted: Callable[[], bool], read: Pieces = pieces) -> str | None:
    """Hash a file (its real path) for as long as it is `wanted`, asked now and then.

    The digest is kept in the folder. Raises OSError, Another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / _LOCK, _leave):
        whole_file.write(folder / _WORK, json.dumps({"path": str(path)}))
        try:
            return _hash(path, Sidecar(folder / DIGESTS), wanted, read)
        finally:
            (folder / _WORK).unlink(missing_ok=True)


def start(command: Sequence[str]) -> None:
    """A process that nobody waits for, and that holds none of our files. Raises OSError."""
    nothing = subprocess.DEVNULL
    if sys.platform == "win32":
        flags = (
            subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.IDLE_PRIORITY_CLASS
        )
        subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, creationflags=flags)
    else:
        subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)


def _hash(path: Path, digests: Sidecar, wanted: Callable[[], bool], read: Pieces) -> str | None:
    before, place = Stamp.of(path), Place.of(path)
    if before is None or digests.get(path, before, place) is not None:
        return None
    found, looked = hashlib.sha256(), time.monotonic()
    for piece in read(path):
        found.update(piece)
        if time.monotonic() - looked > _LOOK_S:
            looked = time.monotonic()
            if not wanted():
                return None
    if before != Stamp.of(path):
        return None
    digests.put(path, before, found.hexdigest(), place)
    return found.hexdigest()


def _leave() -> None:
    raise Another
