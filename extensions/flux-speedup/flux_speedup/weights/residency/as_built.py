"""A module's tensors as they were when it was built, and the way back to exactly those."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ..errors import WeightsError
from ..files.span import plain
from .data import same_memory, set_data

_CPU = torch.device("cpu")
_Slot = tuple[dict[str, Any], str, "torch.Tensor | None"]


class AsBuilt:
    """Remembers which tensor objects a module had at home and which memory each showed.

    Costs no memory while the module still uses its own; where somebody gave it another tensor or other data
    (a merge, a cast, pinned copies), the first one stays alive here. What was written in place is not seen.
    Raises WeightsError for a module with a tensor that is not at home, or that only the host can move.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module
        self._slots = list(_slots(module))
        self._shape = _shape(module)
        tensors = {id(tensor): tensor for _, _, tensor in self._slots if tensor is not None}
        left = next((t for t in tensors.values() if not plain(t) or t.device != _CPU), None)
        if left is not None:
            name = type(module).__name__
            raise WeightsError(None, f"{name} has a {type(left).__name__} on {left.device} that stays there")
        self._data = [(tensor, tensor.data) for tensor in tensors.values()]

    def restore(self) -> int:
        """Give the module its own tensors and data back; returns how many had others.

        Raises WeightsError where it has other parts than it was built with; nothing has changed then.
        """
        if _shape(self._module) != self._shape:
            reason = f"{type(self._module).__name__} has other parts than it was built with"
            raise WeightsError(None, reason)
        other = [(t, data) for t, data in self._data if not same_memory(t, data) or t.device != _CPU]
        set_data(list(other))
        replaced = [slot for slot in self._slots if slot[0][slot[1]] is not slot[2]]
        for tensors, name, tensor in replaced:
            tensors[name] = tensor
        return len(other) + len(replaced)


def _slots(module: torch.nn.Module) -> Iterator[_Slot]:
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                yield tensors, name, tensor


def _shape(module: torch.nn.Module) -> list[tuple[str, int, tuple[str, ...], tuple[str, ...]]]:
    return [
        (name, id(part), tuple(sorted(part._parameters)), tuple(sorted(part._buffers)))
        for name, part in module.named_modules()
    ]
