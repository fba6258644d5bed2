"""A unit: the weights of one leaf module, as they are at home, and how they lie in a place of the ring."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from ..files.span import plain
from .ring import ALIGN

DtypeOf = Callable[[torch.Tensor], torch.dtype]
"""The dtype that a weight at home has on the device (where it is a cast of its file)."""
Merge = Callable[[torch.Tensor], torch.Tensor]
"""The weight with a LoRA in it, from the weight on the device, in new memory."""


@dataclass(eq=False)
class Slot:
    """One parameter of a unit: `home` is the data it has between passes, `dtype` what it has on the device."""

    name: str
    parameter: torch.Tensor
    home: torch.Tensor
    dtype: torch.dtype
    start: int  # in the place
    raw: int | None  # in the place: where its bytes go before they are cast
    shown: int = 0  # address of the data it has while its module runs

    @property
    def bytes(self) -> int:
        return math.prod(self.home.shape) * self.dtype.itemsize

    def is_at(self, parameter: torch.Tensor | None) -> bool:
        """Whether this is still the module's parameter and has its home data."""
        return parameter is self.parameter and parameter.data_ptr() == self.home.data_ptr()


@dataclass(eq=False)
class Unit:
    """One leaf module's weights. `bytes`: those that stay take; `place`: a place in the ring takes.

    `users`: passes that are inside the module now. `seconds`: computing from its start to the next one's.
    `merges`: how parameters get their LoRA, by name. `alone`: memory beside the ring, held while it runs.
    """

    number: int
    name: str
    slots: tuple[Slot, ...] = ()
    bytes: int = 0
    place: int = 0
    users: int = 0
    seconds: float = 0.0
    alone: list[torch.Tensor] = field(default_factory=list)
    merges: Mapping[str, Merge] = field(default_factory=dict)

    def look(self, module: torch.nn.Module, dtype_of: DtypeOf) -> bool:
        """Take the module's parameters as they are now; False where one is not at home, or not plain bytes."""
        slots: list[Slot] = []
        end = 0
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if not plain(parameter) or hasattr(parameter, "gguf_cls") or parameter.device.type != "cpu":
                return False
            home = parameter.data
            if not home.is_contiguous() or home.device != torch.device("cpu"):
                return False
            dtype = dtype_of(parameter)
            raw = end if dtype != home.dtype else None
            end += _aligned(home.nbytes) if raw is not None else 0
            slots.append(Slot(name, parameter, home, dtype, end, raw))
            end += _aligned(slots[-1].bytes)
        self.slots, self.place = tuple(slots), end
        self.bytes = sum(slot.bytes for slot in slots)
        return bool(slots)


Pieces = Callable[[Slot], Sequence[torch.Tensor]]
"""A slot's bytes at home, one after the other, as the supply copies them (uint8, one dimension)."""


def home_bytes(slot: Slot) -> Sequence[torch.Tensor]:
    """A slot's bytes where they are, in one piece."""
    return (slot.home.reshape(-1).view(torch.uint8),)


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN
