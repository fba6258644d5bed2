"""What must stay free on the card while a model computes: what the host asks for, and what it would keep alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..common.engine import CPU

MANAGER = "backend.memory_management"
KINDS = {"cuda", "cpu"}
QUIET = 512 << 20
"""Bytes kept for computing of a model that streams so that it pushes nothing out: weights cast at use, and more."""
OURS = 128 << 20
"""Bytes of the card that checksums and registered files take: for want of them no model is split."""
_LITTLE = 1 / 4


@dataclass(frozen=True)
class Loading:
    """One call of the host's load_models_gpu. Bytes that are to be free after it: `need`, as its caller wants, and
    `least`, below which the host itself swaps.
    """

    models: Sequence[Any]
    need: int
    least: int
    pushes: dict[int, bool] = field(default_factory=dict)
    """What was decided of a model, by its id: see `split_models.pushes`."""
    units: dict[int, Mapping[Any, Any]] = field(default_factory=dict)
    """What of a model may stream, by its id: see `SplitModels.units`."""

    @classmethod
    def of(cls, models: Sequence[Any], memory_required: float, hard_memory_preservation: float) -> Loading:
        """From the arguments of the call."""
        least = manager().minimum_inference_memory()
        need = max(least, memory_required) + hard_memory_preservation
        return cls(tuple(models), int(need), int(least + hard_memory_preservation))

    @property
    def whole(self) -> int:
        """Bytes to keep free where the whole model stays then: the host, too, would keep it there for a little."""
        short = self.need - self.least > self.need * _LITTLE
        return self.need if short else max(0, self.least - OURS)


def outside() -> Loading:
    """What is to be free while no load is under way."""
    return Loading.of((), 0, 0)


def with_host_alone(space: int, size: int, least: int, budget: Callable[[int, int], int]) -> int:
    """Bytes that would be free if the host had loaded a model of `size` bytes where `space` bytes are.

    `budget`: how many bytes of it the host leaves on the card, of free ones and those kept for inference.
    """
    stays = size if space - size >= least else min(size, budget(space, least))
    return space - stays


def manager() -> Any:
    """The host's memory manager."""
    return sys.modules[MANAGER]


def free(device: Any) -> int:
    """Bytes of the device that the host says are free."""
    return int(manager().get_free_memory(device))


def is_card(device: Any) -> bool:
    """A device that is not home, and that weights can be streamed to."""
    return device is not None and device != CPU and device.type in KINDS
