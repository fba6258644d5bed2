"""Which part of the files that are read round after round stays in the page cache, where not all of it can.

Read in a circle, a file that is larger than the cache is never found there: what is needed next is what went first.
So a fixed part stays, and the rest is let go as soon as it is read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

from ...ram import HELD

SHARE = 0.75
"""Of the RAM that can still be had: it goes when somebody needs it, but first goes what others have read."""
PERIOD_S = 30.0


def cache_room() -> int:
    """Bytes that may stay in the page cache for us."""
    free = HELD.free()
    return 1 << 62 if free is None else int(free.available * SHARE)


class CachedPart:
    """What was asked for first stays. Not thread safe."""

    def __init__(
        self, room: Callable[[], int] = cache_room, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`room`: asked now and then; what is not read any more is forgotten then."""
        self._room = room
        self._clock = clock
        self._until: dict[Hashable, int] = {}  # all that stays before it, and itself, in bytes
        self._sizes: dict[Hashable, int] = {}
        self._seen: set[Hashable] = set()
        self._end = self._bytes = 0
        self._next = float("-inf")

    def stays(self, what: Hashable, size: int) -> bool:
        """Whether these bytes, which are read now and will be again, should stay."""
        now = self._clock()
        if now >= self._next:
            self._look(now + PERIOD_S)
        self._seen.add(what)
        if what not in self._until:
            self._add(what, size)
        return self._until[what] <= self._bytes

    def _look(self, following: float) -> None:
        self._next = following
        self._bytes = self._room()
        sizes = [(what, size) for what, size in self._sizes.items() if what in self._seen]
        self._seen.clear()
        self._until.clear()
        self._sizes.clear()
        self._end = 0
        for what, size in sizes:
            self._add(what, size)

    def _add(self, what: Hashable, size: int) -> None:
        self._end += size
        self._until[what], self._sizes[what] = self._end, size
