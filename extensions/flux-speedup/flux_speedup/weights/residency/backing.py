"""What stands behind a parameter: where its bytes can be had again once its copy on the device is dropped."""

from __future__ import annotations

from enum import Enum

import torch

from ..files.mapping import MAPPINGS, Near, Registry
from ..files.span import Span, find, plain, within
from .forms import known
from .shells import SHELLS

# Bits are compared as whole numbers: a float may differ from itself.
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Backing(str, Enum):
    """The backings of a parameter, in the words the statistics use."""

    SPAN = "file"
    HOST = "RAM"
    NONE = "none"


def classify(tensor: torch.Tensor, registry: Registry | Near = MAPPINGS) -> tuple[Backing, Span | None]:
    """The backing of a parameter or buffer that is at home (not on the device), and its span if it has one.

    NONE is for what only the host knows how to move: of an unknown class, sparse, meta, on a device. A shell has no
    bytes that could be behind it: its parts are asked.
    """
    if plain(tensor):
        if not tensor.is_cpu:
            return Backing.NONE, None
        span = within(tensor, registry)
    elif type(tensor) in SHELLS or not known(tensor) or tensor.device.type != "cpu":
        return Backing.NONE, None
    else:
        span = find(tensor.data, registry)
    return (Backing.HOST, None) if span is None else (Backing.SPAN, span)


def prove(source: torch.Tensor, parameter: torch.Tensor, registry: Registry = MAPPINGS) -> Span | None:
    """The span of `source` if it is `parameter` bit for bit, of the same dtype; else None. Reads both."""
    if not (plain(source) and plain(parameter)) or parameter.device.type != "cpu":
        return None
    if (source.shape, source.dtype) != (parameter.shape, parameter.dtype) or not parameter.is_contiguous():
        return None
    span = find(source, registry)
    if span is None:
        return None
    bits = [tensor.data.reshape(-1).view(_WORDS[tensor.dtype.itemsize]) for tensor in (source, parameter)]
    return span if torch.equal(*bits) else None
