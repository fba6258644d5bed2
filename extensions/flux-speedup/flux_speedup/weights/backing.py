"""What stands behind a parameter: where its bytes can be had again once its copy on the device is dropped."""

from __future__ import annotations

from enum import Enum

import torch

from .mapping import MAPPINGS, Registry
from .span import Span, find, plain


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


def prove_cast(source: torch.Tensor, parameter: torch.Tensor, registry: Registry = MAPPINGS) -> Span | None:
    """The span of `source` if casting it gives `parameter` bit for bit, else None. Reads both, on the CPU.

    A source with NaN in it proves nothing: which of the many bit patterns a NaN gets is up to the device.
    """
    if not (plain(source) and plain(parameter)) or source.dtype == parameter.dtype:
        return None
    if source.shape != parameter.shape or parameter.device.type != "cpu" or not parameter.is_contiguous():
        return None
    if not (source.is_floating_point() and parameter.is_floating_point()):
        return None
    span = find(source, registry)
    if span is None:
        return None
    flat, other = source.detach().reshape(-1), parameter.detach().reshape(-1)
    step = 1 << 22  # elements: bounded memory, whatever the size
    for start in range(0, flat.numel(), step):
        piece = flat[start : start + step]
        cast = piece.to(parameter.dtype)
        if bool(torch.isnan(cast.float()).any()) or not torch.equal(
            cast.view(torch.uint8), other[start : start + step].view(torch.uint8)
        ):
            return None
    return span
