"""The folder of packed files: what it may take, and what goes where that is too much."""

from __future__ import annotations

import logging
import math
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...stats.report import size as in_words
from ...storage.file_lock import locked
from ..files.identity import identity
from .index import Index, index_of, lock_of, packed_of, size_of

RESERVE = 8 << 30
"""Bytes of the disk that stay free for others."""
RECENT_S = 86_400.0
"""What was used in that time goes for no newer one: they would take each other's room by turns."""
ELSEWHERE = "another process packs it"
_NAME = re.compile(r"[0-9a-f]{20}")  # what is called otherwise is not ours
_log = logging.getLogger("flux_speedup")


@dataclass(eq=False)
class Room:
    """`limit`: bytes that all packed files may take. Safe from any thread, and from several processes.

    `free`: bytes that a folder's disk has left. `let_go`: told of a packed file before it is deleted: whoever has
    it open closes it.
    """

    folder: Path
    limit: int
    free: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free
    let_go: Callable[[Path], object] = lambda packed: None

    def taken(self) -> int:
        """Bytes of all there is."""
        return sum(map(size_of, self._all()))

    def refuses(self, size: int, mine: Path) -> str:
        """Why so many bytes more cannot be had for `mine`; "" where they can, perhaps as others have gone now."""
        if self._is_there(size):
            return ""
        for other in self._oldest_first() if size <= self.limit else ():
            if other != mine and time.time() - _used(other) > RECENT_S:
                self._drop(other, "there is no room for it beside a newer one")
                if self._is_there(size):
                    return ""
        free = in_words(self.free(self.folder))
        return f"it needs {in_words(size)}, of {in_words(self.limit)} allowed, and the disk has {free} left"

    def sweep(self) -> dict[Path, int]:
        """What belongs to no file any more goes; what is too much, too, what was used longest ago first.

        Answers with the weight files whose packed one is not whole, or was compared under another name or mode,
        and with their bytes.
        """
        found: dict[Path, int] = {}
        for packed in self._all():
            try:
                index = Index.read(packed)
            except OSError as error:  # somebody reads it just now (Windows): nobody knows whose it is
                _log.info("%s: cannot be read now (%s)", index_of(packed), error)
                continue
            now = identity(index.path) if index is not None else None
            if index is not None and now is not None and packed_of(now, self.folder) == packed:
                found |= {} if Index.counting(packed, now) else {index.path: now.size}
            elif index is not None and (other := _elsewhere(index, packed)) is not None:
                found[other] = index.identity.size
            elif index is None or now is not None or _is_gone(index.path):
                self._drop(packed, "its weight file is another one, or gone")
        for packed in self._oldest_first():
            if self._is_there(0, RESERVE // 2):
                break
            self._drop(packed, "room is short")
        return found

    def drop(self, packed: Path, why: str) -> None:
        """For whoever has its lock. What somebody has open on Windows stays until the next time."""
        if packed.exists():
            _log.info("%s is deleted: %s", packed, why)
            self.let_go(packed)
        for path in packed.parent.glob(f"{packed.stem}.*"):
            if path != lock_of(packed):
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def _drop(self, packed: Path, why: str) -> None:
        with suppress(OSError), locked(lock_of(packed), busy):
            self.drop(packed, why)

    def _is_there(self, size: int, reserve: int = RESERVE) -> bool:
        return self.taken() + size <= self.limit and self.free(self.folder) - size >= reserve

    def _oldest_first(self) -> list[Path]:
        return sorted(self._all(), key=_used)

    def _all(self) -> list[Path]:
        with suppress(OSError):
            names = {path.name.partition(".")[0] for path in self.folder.iterdir()}
            return [self.folder / f"{name}.packed" for name in sorted(filter(_NAME.fullmatch, names))]
        return []


def busy() -> None:
    """Nobody waits for a lock here. Raises BlockingIOError."""
    raise BlockingIOError(ELSEWHERE)


def _is_gone(path: Path) -> bool:
    """And not on a drive that is unplugged, or a file that cannot be read just now."""
    return path.parent.is_dir() and not path.exists()


def _used(packed: Path) -> float:
    """When that was; 0 of what is not whole, infinite where nobody knows."""
    try:
        index = Index.read(packed)
        return index_of(packed).stat().st_mtime if index is not None and index.whole else 0.0
    except OSError:
        return math.inf


def _elsewhere(index: Index, packed: Path) -> Path | None:
    """The weight file, where it got another name, or went to a folder near by; the nearest one."""
    here = index.path.parent
    near = here.parent if here.parent.parent != here.parent else here  # all of a disk is not near
    with suppress(OSError):  # of a share that is not there now, say
        for folder, depth in ((here, ""), (here, "*/"), (near, ""), (near, "*/"), (near, "*/*/")):
            for path in folder.glob(f"{depth}*.safetensors"):
                now = identity(path) if size_of(path) == index.identity.size else None
                if now is not None and packed_of(now, packed.parent) == packed:
                    return path
    return None
