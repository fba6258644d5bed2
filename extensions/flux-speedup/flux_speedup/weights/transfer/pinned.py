"""Weights that stay in RAM and are copied to the device at every step: pinned once, in one block of exact size.

The host would pin each tensor at each load, and PyTorch's pinned allocator rounds every block up to a power
of two. Ours is ordinary memory, registered; `Tensor.is_pinned` says yes, so the host finds nothing left to pin.
"""

from __future__ import annotations

import mmap
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from ...ram import cgroup_limit
from ..files.readahead import available_ram
from ..files.span import plain
from ..residency.entry import set_data
from .registration import CUDA_WRITABLE, Refused, Registrar

SHARE = 0.5
_ALIGN = 64


class PinnedHomes:
    """The pinned blocks of this process. A block lives as long as one weight in it does. Thread safe."""

    def __init__(
        self,
        *,
        registrar: Registrar = CUDA_WRITABLE,
        available: Callable[[], int] = available_ram,
        limit: Callable[[], int | None] = cgroup_limit,
    ) -> None:
        """All blocks together take at most half of the `available` RAM, and of the `limit` of this process."""
        self._registrar = registrar
        self._available = available
        self._limit = limit
        self._lock = threading.Lock()
        self._blocks: dict[int, int] = {}  # address: bytes

    @property
    def bytes(self) -> int:
        """Bytes that are pinned now."""
        return sum(list(self._blocks.values()))

    def pin(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Move the data of tensors in RAM into a pinned block; whether all of them are pinned now.

        What there is no room for stays as it was, the last ones first. Raises Refused where the memory cannot be
        had or registered: then everything is as it was.
        """
        with self._lock:
            missing = [t for t in tensors if t.numel() and not self._holds(t)]
            movable = [t for t in missing if plain(t) and t.device.type == "cpu" and t.is_contiguous()]
            starts, size = _laid_out(movable, self._room())
            if size:
                try:
                    self._move(movable, starts, size)
                except (RuntimeError, MemoryError, OSError, ValueError) as error:
                    raise Refused(str(error)) from error
            return len(starts) == len({tensor.data_ptr() for tensor in missing})

    def _holds(self, tensor: torch.Tensor) -> bool:
        address = tensor.data_ptr() if tensor.device.type == "cpu" else -1
        return any(start <= address < start + size for start, size in list(self._blocks.items()))

    def _room(self) -> int:
        taken, limit, available = self.bytes, self._limit(), self._available()
        most = available + taken if limit is None else min(available + taken, limit)
        return int(most * SHARE) - taken

    def _move(self, tensors: Sequence[torch.Tensor], starts: dict[int, int], size: int) -> None:
        buffer = self._block(size)
        pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
        for tensor in tensors:
            start = starts.get(tensor.data_ptr())
            if start is None:
                continue
            with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                flat = torch.frombuffer(buffer, dtype=tensor.dtype, count=tensor.numel(), offset=start)
                pairs.append((tensor, flat.reshape(tensor.shape).copy_(tensor)))
        set_data(pairs)

    def _block(self, size: int) -> mmap.mmap:
        buffer = mmap.mmap(-1, size)
        address = torch.frombuffer(buffer, dtype=torch.uint8).data_ptr()
        # In one piece: no copy may cross from one registration into the next.
        registered = replace(self._registrar, piece=size).register_all(address, size)
        self._blocks[address] = size
        weakref.finalize(buffer, self._forget, address, registered).atexit = False
        return buffer

    def _forget(self, address: int, registered: list[int]) -> None:
        # Runs wherever the last view dies, perhaps inside one of our own calls: it takes no lock.
        self._registrar.unregister_all(registered)
        self._blocks.pop(address, None)


def _laid_out(tensors: Sequence[torch.Tensor], room: int) -> tuple[dict[int, int], int]:
    """Where in a block each address's bytes go, and the size of the block; memory with two names goes once."""
    starts: dict[int, int] = {}
    end = 0
    for address, size in _sizes(tensors):
        if end + size > room:
            break
        starts[address] = end
        end += size
    return starts, end


def _sizes(tensors: Sequence[torch.Tensor]) -> Iterator[tuple[int, int]]:
    sizes: dict[int, int] = {}
    for tensor in tensors:
        address = tensor.data_ptr()
        sizes[address] = max(sizes.get(address, 0), -(-tensor.nbytes // _ALIGN) * _ALIGN)
    yield from sizes.items()


HOMES = PinnedHomes()
"""The blocks of this process."""
