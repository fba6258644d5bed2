"""A thread's slots: which one may be filled next."""

from __future__ import annotations

from collections.abc import Sequence

from .lane import Fence
from .staging import Slot


class Ring:
    """The slots of one thread. One is free once the copies out of it are done.

    A free slot used before is handed out before a fresh one: it is still in the processor's cache. So a fast
    device keeps few slots busy, and a slow one as many as there are.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._fresh = list(reversed(slots))
        self._busy: list[tuple[Slot, Fence | None]] = []

    def free(self) -> tuple[Slot, Fence | None]:
        """A slot to fill, and a fence of its own to use again. Waits for the oldest where all are busy."""
        if self._busy and (not self._fresh or _done(self._busy[0][1])):
            slot, fence = self._busy.pop(0)
            if fence is not None:
                fence.synchronize()
            return slot, fence
        return self._fresh.pop(), None

    def used(self, slot: Slot, fence: Fence | None) -> None:
        """Copies out of `slot` are under way; they are done when `fence` is."""
        self._busy.append((slot, fence))


def _done(fence: Fence | None) -> bool:
    return fence is None or fence.query()
