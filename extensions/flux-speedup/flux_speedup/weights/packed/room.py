"""The folder of packed files: what it may take, and what goes where that is too much."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ...stats.report import size as in_words
from ...storage.file_lock import locked
from ..files.identity import identity
from .bound import Bound, Places

RESERVE = 8 << 30
"""Bytes of the disk that stay free for others."""
RECENT_S = 86_400.0
"""What was used in that time goes for no newer one: they would take each other's room by turns."""
_log = logging.getLogger("flux_speedup")


class Room:
    """`limit`: bytes that all packed files may take. Safe from any thread, and from several processes."""

    def __init__(
        self,
        folder: Path,
        limit: int,
        *,
        free: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
        let_go: Callable[[Path], object] = lambda whole: None,
    ) -> None:
        """`let_go`: told of a packed file before it is deleted: whoever has it open closes it."""
        self.folder = folder
        self.limit = limit
        self._free = free
        self._let_go = let_go

    def taken(self) -> int:
        """Bytes of all there is."""
        return sum(_stat(places.whole)[0] + _stat(places.part)[0] for places in self._all())

    def refuses(self, size: int, mine: Places) -> str:
        """Why so many bytes more cannot be had for `mine`; "" where they can, perhaps as others have gone now."""
        for other in [None, *(p for p in self._oldest_first() if p.name != mine.name)]:
            if other is not None and time.time() - _stat(other.bound)[1] > RECENT_S:
                self._drop(other, "there is no room for it beside a newer one")
            if self.taken() + size <= self.limit and self._free(self._existing()) - size >= RESERVE:
                return ""
            if size > self.limit:
                break
        free = in_words(self._free(self._existing()))
        return f"it needs {in_words(size)}, of {in_words(self.limit)} allowed, and the disk has {free} left"

    def sweep(self) -> dict[Path, int]:
        """What belongs to no file any more goes; what is too much, too, what was used longest ago first.

        Answers with the weight files whose packed one is not whole, or was compared under another name or mode,
        and with their bytes.
        """
        found: dict[Path, int] = {}
        for places in self._all():
            bound = Bound.read(places.bound) or Bound.read(places.journal)
            now = identity(bound.path) if bound is not None else None
            if bound is not None and now is not None and places.fit(now):
                found |= {} if places.count_for(now) else {bound.path: now.size}
            elif bound is not None and (other := _elsewhere(bound, places)) is not None:
                found[other] = bound.identity.size
            elif bound is None or now is not None or bound.path.parent.is_dir():  # else a drive is unplugged
                self._drop(places, "its weight file is another one, or gone")
        for places in self._oldest_first():
            if self.taken() <= self.limit and self._free(self._existing()) >= RESERVE // 2:
                break
            self._drop(places, "room is short")
        return found

    def drop(self, places: Places, why: str) -> None:
        """For whoever has its lock."""
        _log.info("%s is deleted: %s", places.whole, why)
        self._let_go(places.whole)
        places.drop()

    def _drop(self, places: Places, why: str) -> None:
        with suppress(OSError), locked(places.lock, busy):
            self.drop(places, why)

    def _oldest_first(self) -> list[Places]:
        """Those that are not whole before all others."""
        return sorted(self._all(), key=lambda places: _stat(places.bound)[1])

    def _all(self) -> list[Places]:
        with suppress(OSError):
            kinds = (".packed", ".journal", ".part")
            names = {path.name.partition(".")[0] for path in self.folder.iterdir() if path.suffix in kinds}
            return [Places(self.folder, name) for name in sorted(names)]
        return []

    def _existing(self) -> Path:
        return next(each for each in (self.folder, *self.folder.parents) if each.exists())


def busy() -> None:
    """Nobody waits for a lock here. Raises BlockingIOError."""
    raise BlockingIOError("another process packs it")


def _elsewhere(bound: Bound, places: Places) -> Path | None:
    """The weight file, where it got another name, or went to a folder near by; the nearest one."""
    here = bound.path.parent
    near = here.parent if here.parent.parent != here.parent else here  # all of a disk is not near
    with suppress(OSError):  # of a share that is not there now, say
        for folder, depth in ((here, ""), (here, "*/"), (near, ""), (near, "*/"), (near, "*/*/")):
            for path in folder.glob(f"{depth}*.safetensors"):
                if _stat(path)[0] == bound.identity.size and (now := identity(path)) and places.fit(now):
                    return path
    return None


def _stat(path: Path) -> tuple[int, float]:
    """Bytes, and when it was written or used; zeros where it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0.0
    return stat.st_size, stat.st_mtime
