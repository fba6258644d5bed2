"""GGUF files of Forge: its tensors are views of the mapped file.

The host copies each tensor into RAM when it reads the file, again when it builds a layer, and on the device at each
use.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from ...patching.change import Change, Function
from ...weights.errors import WeightsError
from ...weights.files.header import no_header
from ...weights.files.mapping import Mapping, Registry
from ...weights.residency.data import same_memory
from .gguf_weights import PARAMETERS

SUFFIXES = (".gguf",)


def views(registry: Registry, file: str) -> dict[str, Any]:
    """What the host's `load_torch_file` answers for a GGUF file. Raises WeightsError where that cannot be."""
    from backend.operations_gguf import ParameterGGUF
    from gguf import GGUFReader

    mapping = registry.open(file, no_header)
    try:
        reader = GGUFReader(file)
        found = {str(tensor.name): _parameter(ParameterGGUF, tensor, mapping) for tensor in reader.tensors}
    except (
        Exception
    ) as error:  # the host's reader and ours do not go together: then it reads the file by itself
        raise WeightsError(file, f"its tensors cannot be viewed ({type(error).__name__}: {error})") from error
    check_header(reader, mapping)
    return found


def changes() -> list[Change]:
    """A parameter with other data has these, not a copy of them; one that is moved nowhere stays the same one."""
    return [
        Function(PARAMETERS, "ParameterGGUF.copy_with_data", _wrap_copy),
        Function("backend.operations", "ForgeOperationsGGUF.Linear._apply", keep_parameters),
    ]


def _wrap_copy(original: Callable[..., Any]) -> Callable[..., Any]:
    def copy_with_data(parameter: Any, data: Any) -> Any:
        copied = original(parameter, data.new_empty(0))
        copied.data = data  # nobody writes into either
        return copied

    return copy_with_data


def keep_parameters(original: Callable[..., Any]) -> Callable[..., Any]:
    """`_apply` of a layer: what it moves nowhere stays the same object."""

    def _apply(layer: Any, *args: Any, **kwargs: Any) -> Any:
        before = dict(layer._parameters)
        applied = original(layer, *args, **kwargs)
        for name, own in before.items():
            now = layer._parameters.get(name)
            if own is not None and now is not None and same_memory(now, own):
                layer._parameters[name] = own
        return applied

    return _apply


def check_header(reader: Any, mapping: Mapping) -> None:
    """What a reader has found is true of our mapping. Raises WeightsError where it read another file."""
    header = reader.data[: int(reader.data_offset)]
    if not np.array_equal(header, mapping.bytes_at(0, header.nbytes).numpy()):
        raise WeightsError(mapping.path, "another file has had its name meanwhile")


def view(mapping: Mapping, told: Any, dtype: torch.dtype, shape: Any) -> torch.Tensor:
    """The bytes of one of a reader's tensors."""
    if told.data.nbytes == 0:
        return torch.empty(tuple(shape), dtype=dtype)
    # Where a file is aligned to less than its elements, those are copied.
    flat = mapping.bytes_at(int(told.data_offset), told.data.nbytes)
    flat = flat.clone() if flat.data_ptr() % dtype.itemsize else flat
    return flat.view(dtype).reshape(tuple(shape))


def _parameter(kind: Any, tensor: Any, mapping: Mapping) -> Any:
    empty = np.empty(0, tensor.data.dtype)
    parameter = kind(SimpleNamespace(data=empty, tensor_type=tensor.tensor_type, shape=tensor.shape))
    parameter.data = view(mapping, tensor, torch.from_numpy(empty).dtype, tensor.data.shape)
    return parameter
