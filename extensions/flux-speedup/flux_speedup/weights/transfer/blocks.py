"""Blocks of pinned RAM, made by a thread of their own: the first touch of fresh RAM takes longer than a copy."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import mmap
import queue
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace

import torch

from ...ram import HELD, SHORT, Held, Hold
from .registration import CUDA_WRITABLE, Refused, Registered, Registrar
from .spare import SPARE, Spare

REST = 3
"""Who computes waits while memory is registered: after that, so many times as long nothing is."""
_log = logging.getLogger("flux_speedup")

Ready = Callable[[torch.Tensor], None]
Wanted = Callable[[], bool]


class Blocks:
    """What there is no room for by the ledger's rule is not made, and nothing more is then, until some are let go.

    A block lives as long as a view of it. `ask` may be called on any thread; what it calls runs on that one, or on
    the maker's.
    """

    def __init__(
        self,
        *,
        pinned: bool = True,
        registrar: Registrar = CUDA_WRITABLE,
        allocate: Callable[[int], torch.Tensor] | None = None,
        held: Held = HELD,
        rest: float = REST,
        spare: Spare = SPARE,
    ) -> None:
        """`pinned`: whether the device wants it so; else it is ordinary memory, and made at once. `allocate`:
        pinned memory for where ordinary one cannot be registered. `spare`: where blocks go to, and are found.
        """
        self._pinned = pinned
        self._registrar = registrar
        self._allocate = allocate or _pinned
        self._held = held
        self._rest = rest
        self._spare = spare
        self._asked: queue.SimpleQueue[tuple[int, Ready, Wanted] | None] = queue.SimpleQueue()
        self._maker: threading.Thread | None = None
        self.full = False

    def ask(self, size: int, ready: Ready, wanted: Wanted = lambda: True) -> bool:
        """`ready` is given a block of `size` bytes, if it is `wanted` by then; never, where there is no room.

        Whether it may be.
        """
        block = self._spare.take(size)
        if block is not None:
            ready(block)
            return True
        if self.full:
            return False
        if not self._pinned:
            self._make(size, ready)
            return not self.full
        if self._maker is None:
            maker = threading.Thread(target=self._work, name="flux-speedup-pinning", daemon=True)
            with contextlib.suppress(RuntimeError):  # no more threads here
                maker.start()
                self._maker = maker
            self.full = self._maker is None
        self._asked.put((size, ready, wanted))
        return not self.full

    def let_go(self, blocks: list[torch.Tensor]) -> None:
        """Nothing reads these or writes to them any more; so there may be room. The list is empty after it."""
        self._spare.put(blocks)
        self.full = False

    def close(self) -> None:
        """No more blocks; those that are there live on."""
        self.full = True
        if self._maker is not None:
            self._asked.put(None)
            self._maker.join()
            self._maker = None

    def _work(self) -> None:
        while self._step(self._asked.get()):
            pass

    def _step(self, asked: tuple[int, Ready, Wanted] | None) -> bool:
        if asked is not None and asked[2]() and not self.full:
            time.sleep(self._rest * self._make(*asked[:2]))
        return asked is not None

    def _make(self, size: int, ready: Ready) -> float:
        """Returns how many seconds of it others may have waited for."""
        begun = time.perf_counter()
        try:
            block, begun = self._ordinary(size)
            if self._pinned:
                try:
                    block.register()
                except Refused:  # Windows and ROCm may want memory of their own kind
                    del block
                    ready(self._theirs(size))
                    return time.perf_counter() - begun
            ready(block.all_bytes())
        except (Refused, RuntimeError, MemoryError, OSError, ValueError) as error:
            self.full = True
            _log.info("no more memory is pinned for streaming (%s)", error)
        return time.perf_counter() - begun

    def _ordinary(self, size: int) -> tuple[Registered, float]:
        """Memory that was touched, and when that was done. Nothing is registered yet."""
        hold = self._take(size)
        try:
            buffer = mmap.mmap(-1, size)
        except BaseException:
            hold.release()
            raise
        # In one piece: no copy may cross from one registration into the next.
        block = Registered(buffer, replace(self._registrar, piece=size), lambda _: hold.release())
        ctypes.memset(block.address, 0, size)
        return block, time.perf_counter()

    def _theirs(self, size: int) -> torch.Tensor:
        """Pinned by PyTorch, which rounds up to a power of two."""
        hold = self._take(1 << (size - 1).bit_length())
        try:
            array = self._allocate(size).numpy()
        except BaseException:
            hold.release()
            raise
        weakref.finalize(array, hold.release).atexit = False
        return torch.from_numpy(array)

    def _take(self, size: int) -> Hold:
        hold = self._room(size)
        if hold is None and self._spare.drop():
            hold = self._room(size)
        if hold is None:
            raise Refused("the RAM that is left is for others")
        return hold

    def _room(self, size: int) -> Hold | None:
        # Twice what would make them go again.
        return self._held.take(size) if not self._held.is_short(2 * SHORT, size) else None


def _pinned(size: int) -> torch.Tensor:
    with torch.inference_mode(False):
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)
