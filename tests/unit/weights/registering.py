"""What stands for CUDA's registering of memory, which cannot be had without a card, and for a machine's RAM."""

from __future__ import annotations

import torch

from flux_speedup.ram import Free, Held
from flux_speedup.weights.transfer.registration import Registrar

PIECE = 4096
ERROR = 801
PLENTY = 1 << 40


def ledger(total: int = PLENTY) -> Held:
    """The ledger of a machine on which nobody else takes RAM."""
    held = Held(lambda _: Free(max(0, total - held.bytes), total))
    return held


class Machine:
    """Registers like CUDA: remembers what is registered, and fails at the n-th piece if told to."""

    def __init__(self, fail_at: int = -1, piece: int = PIECE) -> None:
        self.registered: dict[int, int] = {}
        self.calls = 0
        self._fail_at = fail_at
        self.registrar = Registrar(self._register, self._unregister, piece)

    @property
    def bytes(self) -> int:
        return sum(self.registered.values())

    def has(self, tensor: torch.Tensor) -> bool:
        """Whether all of a tensor's memory is registered."""
        start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        for address, length in sorted(self.registered.items()):
            if address <= start < address + length:
                start = min(end, address + length)
        return start == end

    def _register(self, address: int, length: int) -> int:
        self.calls += 1
        if self.calls - 1 == self._fail_at:
            return ERROR
        assert address not in self.registered
        self.registered[address] = length
        return 0

    def _unregister(self, address: int) -> int:
        del self.registered[address]
        return 0
