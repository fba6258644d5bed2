"""The folder of packed files: what it may take, and what goes where that is too much."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ...stats.report import size as in_words
from ..files.identity import identity
from .bound import Bound, Places

RESERVE = 8 << 30
"""Bytes of the disk that stay free for others."""
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
        return sum(_size(path) for path in (*self._all("*.packed"), *self._all("*.part")))

    def refuses(self, size: int, mine: Places) -> str:
        """Why so many bytes more cannot be had for `mine`; "" where they can, perhaps as others have gone now."""
        for other in [None, *self._oldest_first(mine)]:
            if other is not None:
                self._drop(other, "there is no room for it beside a newer one")
            if self.taken() + size <= self.limit and self._free(self._existing()) - size >= RESERVE:
                return ""
            if size > self.limit:
                break
        free = in_words(self._free(self._existing()))
        return f"it needs {in_words(size)}, of {in_words(self.limit)} allowed, and the disk has {free} left"

    def sweep(self) -> None:
        """What belongs to no file any more goes; what is too much, too, what was used longest ago first."""
        for path in [*self._all("*.packed"), *self._all("*.journal")]:
            places = Places(self.folder, path.stem)
            bound = Bound.read(places.bound) or Bound.read(places.journal)
            # In between a packed file is whole and not bound yet: then its lock is there.
            if _is_gone(bound) if bound is not None else not places.lock.exists():
                self._drop(places, "its weight file is another one, or gone")
        for places in self._oldest_first(None):
            if self.taken() <= self.limit and self._free(self._existing()) >= RESERVE // 2:
                return
            self._drop(places, "room is short")

    def _oldest_first(self, but: Places | None) -> list[Places]:
        every = [(_used(path), Places(self.folder, path.stem)) for path in self._all("*.json")]
        return [p for _, p in sorted(every, key=lambda one: one[0]) if p != but and p.whole.exists()]

    def _drop(self, places: Places, why: str) -> None:
        _log.info("%s is deleted: %s", places.whole, why)
        self._let_go(places.whole)
        places.drop()

    def _all(self, pattern: str) -> list[Path]:
        with suppress(OSError):
            return list(self.folder.glob(pattern))
        return []

    def _existing(self) -> Path:
        return next(each for each in (self.folder, *self.folder.parents) if each.exists())


def _is_gone(bound: Bound) -> bool:
    """A file that is there with another content, or is not where its folder is (a drive may be unplugged)."""
    now = identity(bound.path)
    if now is None:
        return bound.path.parent.is_dir() and not bound.path.exists()
    return (now.size, now.sample) != (bound.identity.size, bound.identity.sample)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
