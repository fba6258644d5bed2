"""What stands behind a parameter: where its bytes can be had again once its copy on the device is dropped."""

from __future__ import annotations

from enum import Enum

import torch

from ..files.mapping import MAPPINGS, Registry
from ..files.span import Span, find, plain

# Bits are compared as whole numbers: a float may differ from itself.
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Backing(str, Enum):
    """The backings of a parameter, in the words the statistics use."""

    SPAN = "file"
    SPAN_CAST = "file, cast"
    HOST = "RAM"
    NONE = "none"


def classify(tensor: torch.Tensor, registry: Registry = MAPPINGS) -> tuple[Backing, Span | None]:
    """The backing of a parameter or buffer that is at home (not on the device), and its span if it has one.

    NONE is for what only the host knows how to move: quantised, GGUF, sparse, meta, already on a device.
    """
    if not plain(tensor) or tensor.device.type != "cpu" or hasattr(tensor, "gguf_cls"):
        return Backing.NONE, None
    span = find(tensor.detach(), registry)
    return (Backing.HOST, None) if span is None else (Backing.SPAN, span)


def prove(source: torch.Tensor, parameter: torch.Tensor, registry: Registry = MAPPINGS) -> Span | None:
    """The span of `source` if it is `parameter` bit for bit, cast where it has another dtype; else None.

    Reads both, on the CPU. A NaN that would be cast proves nothing: which of the many bit patterns it gets
    is up to the device.
    """
    if not (plain(source) and plain(parameter)):
        return None
    if source.shape != parameter.shape or parameter.device.type != "cpu" or not parameter.is_contiguous():
        return None
    casts = source.dtype != parameter.dtype
    if casts and not (source.is_floating_point() and parameter.is_floating_point()):
        return None
    span = find(source, registry)
    if span is None:
        return None
    flat, other = source.detach().reshape(-1), parameter.detach().reshape(-1)
    step = 1 << 20  # elements: pieces that stay in the processor's cache
    buffer = torch.empty(min(step, flat.numel()), dtype=parameter.dtype)
    for start in range(0, flat.numel(), step):
        piece = flat[start : start + step]
        cast = buffer[: piece.numel()].copy_(piece) if casts else piece
        # There is no isnan for 8 bit floats.
        if casts and bool(torch.isnan(cast if cast.dtype.itemsize > 1 else cast.float()).any()):
            return None
        word = _WORDS[cast.dtype.itemsize]
        if not torch.equal(cast.view(word), other[start : start + step].view(word)):
            return None
    return span
