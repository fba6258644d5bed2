"""Quantised weights of Forge Neo (fp8 with scales, NVFP4, MXFP8, INT8): values and scales stay in their file.

The host's class is a shell around plain tensors. Wherever it makes another one of them it copies the scales, which
for NVFP4 are an eighth of the model; here they are views as the values are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ...patching.change import Call, Change, Function, Undo, whatever_is_there
from ...weights.residency.shells import SHELLS, Shell

LAYERS = "backend.quant_ops"
OPERATIONS = "backend.operations_mixed_precision"
TENSORS = "comfy_kitchen.tensor.base"
VALUES = "values"


def changes() -> list[Change]:
    """The host's class is known; where the host's library is not, there is nothing to know."""
    alias = Function(TENSORS, "QuantizedTensor._copy_with", _wrap_copy)
    keep = Function(OPERATIONS, "_quantized_apply", _wrap_apply, guarded=False)
    return [
        Call(lambda: whatever_is_there([Call(_learn, module=TENSORS), alias]), module=LAYERS),
        Call(lambda: whatever_is_there([keep]), module=OPERATIONS),
    ]


def _learn() -> Undo:
    from comfy_kitchen.tensor.base import QuantizedTensor

    SHELLS[QuantizedTensor] = Shell(_parts, _settle, _form, _alike)

    def forget() -> None:
        SHELLS.pop(QuantizedTensor, None)

    return forget


def _parts(tensor: Any) -> Mapping[str, torch.Tensor]:
    return {VALUES: tensor._qdata, **_scales(tensor._params)}


def _scales(params: Any) -> dict[str, torch.Tensor]:
    fields = {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    return {name: value for name, value in fields.items() if isinstance(value, torch.Tensor)}


def _settle(tensor: Any) -> None:
    if tensor.device != tensor._qdata.device:
        # The host copies one that was made in inference mode when it is moved outside of it.
        with torch.inference_mode(tensor.is_inference()), torch.no_grad():
            tensor.data = type(tensor)(tensor._qdata, tensor._layout_cls, tensor._params)


def _form(tensor: Any) -> str:
    name: str = tensor._layout_cls
    for word in ("TensorCore", "TensorWise", "Layout"):
        name = name.replace(word, "")
    return name


def _alike(tensor: Any) -> torch.Tensor:
    with torch.inference_mode(tensor.is_inference()), torch.no_grad():
        values, scales = tensor._qdata.detach(), _with_views(tensor._params)
        found: torch.Tensor = type(tensor)(values, tensor._layout_cls, scales)
    return found


def _with_views(params: Any) -> Any:
    return dataclasses.replace(params, **{name: scale.detach() for name, scale in _scales(params).items()})


def _wrap_apply(original: Callable[..., Any]) -> Callable[..., Any]:
    def _quantized_apply(layer: Any, function: Callable[[Any], Any], recurse: bool = True) -> Any:
        """What it moves nowhere, as it is home already, stays the same object. The host makes a parameter of that
        anew as well, which copies it outside of inference mode, and fails in it.
        """
        own = {name: one for name, one in layer._parameters.items() if one is not None}
        made = {id(one): function(one) for one in own.values()}
        stay = {name: one for name, one in own.items() if made[id(one)] is one}
        layer._parameters.update(dict.fromkeys(stay))
        try:
            return original(
                layer, lambda one: made.pop(id(one)) if id(one) in made else function(one), recurse
            )
        finally:
            layer._parameters.update(stay)

    return _quantized_apply


def _wrap_copy(original: Callable[..., Any]) -> Callable[..., Any]:
    def _copy_with(tensor: Any, qdata: Any = None, params: Any = None, clone_params: bool = True) -> Any:
        if qdata is not None and params is None and qdata.data_ptr() == tensor._qdata.data_ptr():
            # Another view of the same values, such as a parameter of them.
            return original(tensor, qdata, _with_views(tensor._params), False)
        return original(tensor, qdata, params, clone_params)

    return _copy_with
