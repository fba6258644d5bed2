"""The staging arena: one block of RAM, pinned where the device wants it, cut into slots and used again."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ...ram import HELD, Held, Hold
from .plan import CHUNK

LIMIT = 96 << 20
_LEAST = 32 << 20
_log = logging.getLogger("flux_speedup")


@dataclass(frozen=True, eq=False)
class Slot:
    """One chunk's place in the arena: the same bytes as a tensor and as a writable view for readers."""

    tensor: torch.Tensor
    view: memoryview


class Arena:
    """At most `limit` bytes, made at first use, kept until `release`. One load uses it at a time."""

    def __init__(
        self,
        *,
        limit: int = LIMIT,
        chunk: int = CHUNK,
        allocate: Callable[[int, bool], torch.Tensor] | None = None,
        held: Held = HELD,
    ) -> None:
        """`held`: the ledger in which it counts while it is pinned."""
        self.chunk = chunk
        self._limit = max(limit, chunk)
        self._allocate = allocate or _allocate
        self._lock = threading.Lock()
        self._slots: list[Slot] = []
        self._pinned = False
        self._ledger = held
        self._hold: Hold | None = None
        self._asked_for_pinned = False

    @property
    def bytes(self) -> int:
        """Bytes that the arena takes now."""
        return len(self._slots) * self.chunk

    @property
    def pinned(self) -> bool:
        return self._pinned

    @contextlib.contextmanager
    def slots(self, *, pinned: bool) -> Iterator[list[Slot]]:
        """All slots, for one load alone; waits for others. Raises MemoryError or RuntimeError."""
        with self._lock:
            if not self._slots or (pinned and not self._asked_for_pinned):
                self._asked_for_pinned = pinned
                self._make(pinned)
            yield self._slots

    def release(self) -> None:
        """Give the RAM back; waits for a load that uses it. The next load makes the arena anew."""
        with self._lock:
            self._let_go()
            _return_pinned_memory()

    def _make(self, pinned: bool) -> None:
        self._let_go()
        size = self._limit
        while True:
            try:
                self._cut(self._allocate(size, pinned))
                self._pinned = pinned
                self._hold = self._ledger.note(self.bytes) if pinned else None
            except (RuntimeError, MemoryError) as error:
                if size > max(_LEAST, self.chunk):
                    size = max(size // 2, self.chunk)
                elif pinned:
                    _log.warning("no pinned memory for staging (%s); going on with ordinary memory", error)
                    size, pinned = min(self._limit, max(_LEAST, self.chunk)), False
                else:
                    raise
            else:
                return

    def _let_go(self) -> None:
        self._slots = []
        self._pinned = False
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    def _cut(self, block: torch.Tensor) -> None:
        array: Any = block.numpy()
        whole = memoryview(array)
        self._slots = [
            Slot(block[start : start + self.chunk], whole[start : start + self.chunk])
            for start in range(0, block.numel() - self.chunk + 1, self.chunk)
        ]


class SpareArena:
    """An arena that nobody uses any more waits for whoever needs one next: to pin one takes a tenth of a second.

    At most one waits, and none while RAM is short. Thread safe.
    """

    def __init__(self, make: Callable[[], Arena], is_short: Callable[[], bool] = HELD.is_short) -> None:
        self._make = make
        self._is_short = is_short
        self._lock = threading.Lock()
        self._waiting: Arena | None = None

    def take(self) -> Arena:
        """The one that waits, or a new one; the caller's alone until it is given back."""
        with self._lock:
            found, self._waiting = self._waiting, None
        return found or self._make()

    def give(self, arena: Arena) -> None:
        """Nobody uses it any more."""
        with self._lock:
            keep = self._waiting is None and not self._is_short()
            if keep:
                self._waiting = arena
        if not keep:
            arena.release()


def _allocate(size: int, pinned: bool) -> torch.Tensor:
    with torch.inference_mode(False):
        return torch.empty(size, dtype=torch.uint8, pin_memory=pinned)


def _return_pinned_memory() -> None:
    # PyTorch keeps freed pinned blocks for itself; newer ones can be asked to give them back.
    empty = getattr(torch._C, "_host_emptyCache", None)
    cuda: Any = torch.cuda
    if empty is not None and cuda.is_available() and cuda.is_initialized():
        empty()
