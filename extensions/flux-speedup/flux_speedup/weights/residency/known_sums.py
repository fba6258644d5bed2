"""Checksums of bytes that are fixed for good, such as a span's of a file: taken once, good for every later load."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

import torch

LIMIT = 64 << 20
"""Bytes of checksums: those of 256 GiB of weights."""


class KnownSums:
    """By what their bytes are; the ones used longest ago go. Safe from any thread."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._sums: OrderedDict[Hashable, torch.Tensor] = OrderedDict()
        self._bytes = 0

    def of(self, key: Hashable) -> torch.Tensor | None:
        """What was noted of these bytes."""
        with self._lock:
            found = self._sums.get(key)
            if found is not None:
                self._sums.move_to_end(key)
            return found

    def note(self, key: Hashable, sums: torch.Tensor) -> None:
        """These bytes have these checksums, in RAM, which nobody writes from now on."""
        with self._lock:
            if key in self._sums:
                return
            self._sums[key] = sums
            self._bytes += sums.nbytes
            while self._bytes > self._limit:
                self._bytes -= self._sums.popitem(last=False)[1].nbytes


KNOWN = KnownSums()
"""Those of this process."""
