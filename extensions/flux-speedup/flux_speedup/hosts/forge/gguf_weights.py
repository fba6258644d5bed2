"""What Forge makes of a GGUF weight: "baked" at a load, taken apart at use, put together again with a LoRA in it.

All of it is the host's own arithmetic, on the device. At home a weight is not baked: it is a view of its file.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch

from ...patching.change import Call, Change, Function, Undo
from ...weights.named import parameters_of
from ...weights.residency.forms import KINDS, Merge, Recipe

PARAMETERS = "backend.operations_gguf"


class GgufKind:
    """`ParameterGGUF`. One without a quantisation (F16, F32) goes as it is, and so does one that is baked."""

    foreign = "not one of those: all can be moved"

    def owns(self, tensor: torch.Tensor) -> bool:
        return True

    def recipe(self, tensor: Any) -> Recipe | None:
        if not is_raw(tensor):
            return None
        taken, dtype, made = _block(tensor.gguf_cls, tensor.computation_dtype)
        count, rest = divmod(tensor.data.nbytes, taken)
        if rest or not tensor.data.is_contiguous():
            return None
        make = functools.partial(_bake, tensor.gguf_cls, tensor.computation_dtype)
        return Recipe(dtype, (count, made), make, _set_baked, _set_raw)

    def companions(self, tensor: torch.Tensor) -> Mapping[str, torch.Tensor]:
        return {}

    def merged(self, tensor: Any, merge: Merge) -> torch.Tensor:
        """Raises NotImplementedError, with the host's advice, for quantisations that the host can only read."""
        if tensor.gguf_cls is None:
            return merge(tensor)
        from backend.operations_gguf import dequantize_tensor

        parent = SimpleNamespace(baked=True, computation_dtype=tensor.computation_dtype, data=None)
        tensor.gguf_cls.quantize_pytorch(merge(dequantize_tensor(tensor)), parent)
        made = tensor.copy_with_data(parent.data)
        made.baked = True
        found: torch.Tensor = made
        return found


def changes() -> list[Change]:
    """The class is known, and whoever uses a weight that is not baked gets what one that is would give."""
    return [
        Call(_learn, module=PARAMETERS),
        Function(PARAMETERS, "dequantize_tensor", _wrap_dequantize),
        # It was imported by name.
        Function("backend.operations", "dequantize_tensor", _wrap_dequantize),
    ]


def is_raw(tensor: Any) -> bool:
    """Whether a weight has its file's bytes, and the host computes only with what it makes of them."""
    return getattr(tensor, "gguf_cls", None) is not None and not tensor.baked


def to_be_baked(model: torch.nn.Module) -> None:
    """The host's next load bakes what is not baked: it asks the model, not the weights, whether that was done."""
    if any(map(is_raw, parameters_of(model))):
        vars(model).pop("gguf_baked", None)


def _learn() -> Undo:
    from backend.operations_gguf import ParameterGGUF

    KINDS[ParameterGGUF] = GgufKind()

    def forget() -> None:
        KINDS.pop(ParameterGGUF, None)

    return forget


def _wrap_dequantize(original: Callable[..., Any]) -> Callable[..., Any]:
    def dequantize_tensor(tensor: Any) -> Any:
        if not is_raw(tensor):
            return original(tensor)
        data = _bake(tensor.gguf_cls, tensor.computation_dtype, tensor.data)
        return original(
            SimpleNamespace(
                data=data,
                baked=True,
                gguf_cls=tensor.gguf_cls,
                shape=tensor.shape,
                computation_dtype=tensor.computation_dtype,
            )
        )

    return dequantize_tensor


def _bake(quantisation: Any, computation: torch.dtype, raw: torch.Tensor) -> torch.Tensor:
    """What the host makes of a file's bytes; it is told of them what it asks a parameter."""
    parameter = SimpleNamespace(data=raw, computation_dtype=computation, baked=False)
    quantisation.bake(parameter)
    data: torch.Tensor = parameter.data
    return data


@functools.cache
def _block(quantisation: Any, computation: torch.dtype) -> tuple[int, torch.dtype, int]:
    """Bytes of a block in the file; the dtype and the number of elements of a baked one."""
    sizes = sys.modules[quantisation.__module__].GGML_QUANT_SIZES  # of the package that the host has it from
    taken = sizes[quantisation.qtype][1]
    with torch.inference_mode():
        baked = _bake(quantisation, computation, torch.zeros((1, taken), dtype=torch.uint8))
    return taken, baked.dtype, baked.shape[-1]


def _set_baked(tensor: Any) -> None:
    tensor.baked = True


def _set_raw(tensor: Any) -> None:
    tensor.baked = False
