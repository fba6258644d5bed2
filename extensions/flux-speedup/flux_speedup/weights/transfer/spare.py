"""Blocks of pinned RAM that nobody needs any more, kept for whoever wants one of the same size next.

Taking a registration back makes the card and its driver wait, some 0.2 s for each GB: so blocks go while nobody
computes, or once RAM is short.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch

from ...ram import HELD, Held
from .idle import QUIET_S, WhileIdle, nobody


class Spare:
    """Blocks by size. Nothing is read from them or written to them any more. Safe from any thread."""

    def __init__(self, held: Held = HELD, quiet_s: float = QUIET_S) -> None:
        """`held`: the ledger that they are in until they go. `busy`, to be set: whether somebody computes."""
        self.busy: Callable[[], bool] = nobody
        self._held = held
        self._lock = threading.Lock()
        self._blocks: dict[int, list[torch.Tensor]] = {}
        self._idle = WhileIdle(lambda: self.busy(), self._relieve, quiet_s)

    def put(self, blocks: list[torch.Tensor]) -> None:
        """These are spare. The list is empty after it."""
        with self._lock:
            for block in blocks:
                self._blocks.setdefault(block.numel(), []).append(block)
        blocks.clear()
        self._idle.stir()
        if self._blocks:
            self._idle.add("spare", self._drop_one)

    def take(self, size: int) -> torch.Tensor | None:
        """One of so many bytes; the caller's from now on."""
        with self._lock:
            return self._take(size)

    def drop(self) -> bool:
        """All of them go now; whether there was one."""
        dropped = False
        while not self._drop_one():
            dropped = True
        return dropped

    def _drop_one(self) -> bool:
        """Whether there was none."""
        with self._lock:
            block = self._take(next(iter(self._blocks), 0))
        return block is None  # it goes once nobody has to wait for that

    def _take(self, size: int) -> torch.Tensor | None:
        blocks = self._blocks.get(size)
        block = blocks.pop() if blocks else None
        if not blocks:
            self._blocks.pop(size, None)
        return block

    def _relieve(self) -> bool:
        """Whether there is something to watch; all goes once RAM is short."""
        if self._blocks and self._held.is_short():
            self.drop()
        return bool(self._blocks)


SPARE = Spare()
"""Those of this process."""
