"""Weights that stay in RAM and are copied to the device at every step: pinned once, in one block of exact size.

The host would pin each tensor at each load, and PyTorch's pinned allocator rounds every block up to a power
of two. Ours is ordinary memory, registered; `Tensor.is_pinned` says yes, so the host finds nothing left to pin.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch

from ...ram import HELD, Held, Hold
from ..inference import made_in_inference
from ..residency.data import set_data
from ..residency.forms import known
from .registration import CUDA_WRITABLE, Refused, Registered, Registrar

_ALIGN = 64


class PinnedHomes:
    """The pinned blocks of this process. A block lives as long as one weight in it does. Thread safe."""

    def __init__(self, *, registrar: Registrar = CUDA_WRITABLE, held: Held = HELD) -> None:
        """All that is in the ledger `held`, whoever's it is, is at most half of the RAM, or nothing is added."""
        self._registrar = registrar
        self._held = held
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
            missing = [t for t in tensors if t.numel() and not self.holds(t)]
            movable = [t for t in missing if _can_move(t)]
            starts, size = _laid_out(movable, self._held.room())
            hold = self._held.take(size) if size else None
            if hold is None:  # nothing fits, or somebody else was faster
                return not missing
            try:
                self._move(movable, starts, self._block(size, hold))
            except (RuntimeError, MemoryError, OSError, ValueError) as error:
                raise Refused(str(error)) from error
            return len(starts) == len({tensor.data_ptr() for tensor in missing})

    def holds(self, tensor: torch.Tensor) -> bool:
        """Whether the data of a tensor are in a block."""
        address = tensor.data_ptr() if tensor.device.type == "cpu" else -1
        return any(start <= address < start + size for start, size in list(self._blocks.items()))

    def _move(self, tensors: Sequence[torch.Tensor], starts: dict[int, int], block: Registered) -> None:
        pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
        for tensor in tensors:
            start = starts.get(tensor.data_ptr())
            if start is None:
                continue
            with torch.inference_mode(made_in_inference(tensor)), torch.no_grad():
                data = tensor.data
                (flat,) = block.bytes_at(start, data.nbytes)
                pairs.append((tensor, flat.view(data.dtype).reshape(data.shape).copy_(data)))
        set_data(pairs)

    def _block(self, size: int, hold: Hold) -> Registered:
        try:
            buffer = mmap.mmap(-1, size)
        except BaseException:
            hold.release()
            raise
        # In one piece: no copy may cross from one registration into the next.
        block = Registered(buffer, replace(self._registrar, piece=size), partial(self._forget, hold))
        self._blocks[block.address] = size
        return block.register()

    def _forget(self, hold: Hold, address: int) -> None:
        # Runs wherever the last view dies, perhaps inside one of our own calls: it takes no lock.
        self._blocks.pop(address, None)
        hold.release()


def _can_move(tensor: torch.Tensor) -> bool:
    return known(tensor) and tensor.device.type == "cpu" and tensor.data.is_contiguous()


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
