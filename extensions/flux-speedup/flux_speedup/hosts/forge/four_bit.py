"""NF4 and FP4 weights of bitsandbytes: what a file has packed comes and goes with its quantisation state.

The state (scales, code book, scales of scales) are tensors of the same file, and plain ones. A weight that the host
quantises by itself, at its first move, has nothing in a file that could be read again: it is the host's to move.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch

from ...patching.change import Call, Change, Function, Undo, whatever_is_there
from ...weights.files.mapping import Registry
from ...weights.residency.forms import KINDS, Recipe
from ...weights.transfer.pinned import HOMES

OPERATIONS = "backend.operations"
PARAMETERS = "backend.operations_bnb"
"""Imported by the other one, where bitsandbytes is there."""


class FourBit:
    """What residencies are told of the host's class."""

    foreign = "quantised by it at its load"

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def owns(self, tensor: Any) -> bool:
        """Whether it was packed when it was read. On a device only those are asked for that a residency brought."""
        packed = tensor.bnb_quantized and tensor.quant_state is not None
        data = tensor.data
        if data.device.type != "cpu":
            return packed
        in_file = self._registry.around(data.data_ptr(), data.nbytes) is not None
        return packed and (in_file or HOMES.holds(data))

    def recipe(self, tensor: Any) -> Recipe | None:
        return None

    def companions(self, tensor: Any) -> Mapping[str, torch.Tensor]:
        state = tensor.quant_state
        if state is None:
            return {}
        found = {"absmax": state.absmax, "code": state.code}
        if state.nested:
            found |= {"offset": state.offset, "nested absmax": state.state2.absmax}
            found["nested code"] = state.state2.code
        return found

    def merged(self, tensor: Any, merge: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """As the host merges: unpacked, and packed again where it is."""
        from backend.operations_bnb import ForgeLoader4Bit, functional_dequantize_4bit

        layer: Any = SimpleNamespace(weight=tensor)
        merged: torch.Tensor = ForgeLoader4Bit.reload_weight(
            layer, merge(functional_dequantize_4bit(tensor))
        ).weight
        return merged


def changes(registry: Registry) -> list[Change]:
    """The host's class is known, and a move of such a weight to where it is makes no other of it."""
    kind = FourBit(registry)

    def begin() -> Undo:
        from backend.operations_bnb import ForgeParams4bit

        def end() -> None:
            KINDS.pop(ForgeParams4bit, None)

        KINDS[ForgeParams4bit] = kind
        return end

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def to(parameter: Any, *args: Any, **kwargs: Any) -> Any:
            device, dtype, _, layout = torch._C._nn._parse_to(*args, **kwargs)
            stays = dtype is None and layout is None and parameter.bnb_quantized
            if stays and device is not None and _is_on(parameter, kind.companions(parameter), device):
                return parameter  # as PyTorch does for its own
            return original(parameter, *args, **kwargs)

        return to

    found: list[Change] = [Call(begin, module=PARAMETERS), Function(PARAMETERS, "ForgeParams4bit.to", make)]
    # Where bitsandbytes is not, there is nothing to know, and everything else must go on.
    return [Call(partial(whatever_is_there, found), module=OPERATIONS)]


def _is_on(tensor: torch.Tensor, companions: Mapping[str, torch.Tensor], device: torch.device) -> bool:
    own = tensor.device
    there = own == device or (device.index is None and own.type == device.type)
    return there and bool(companions) and all(each.device == own for each in companions.values())
