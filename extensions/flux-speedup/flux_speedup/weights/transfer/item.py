"""What a transfer is asked for: new device tensors, and where their bytes are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..files.span import Span
from .plan import Request


@dataclass(frozen=True, eq=False)
class Item:
    """One new device tensor of `dtype` and `shape`, and where its bytes are: a file span or a tensor in RAM.

    A RAM tensor that is small or not contiguous is copied
    without staging (its strides are kept). `inference`: the new one is an inference tensor; a parameter
    made under inference mode has no version counter, and given ordinary data it could not be viewed outside
    that mode.
    """

    origin: Span | torch.Tensor
    dtype: torch.dtype
    shape: tuple[int, ...]
    staged: bool = True
    inference: bool = False

    @property
    def bytes(self) -> int:
        """Bytes of the new tensor."""
        return math.prod(self.shape) * self.dtype.itemsize


def requests_of(items: Sequence[Item]) -> tuple[list[Span | torch.Tensor], list[Request]]:
    """The sources in order of first use, each file once, and what is wanted of each for which item."""
    origins: list[Span | torch.Tensor] = []
    files: dict[object, int] = {}
    requests: list[Request] = []
    for dest, item in enumerate(items):
        if isinstance(item.origin, Span):
            source = files.setdefault(item.origin.identity, len(origins))
            if source == len(origins):
                origins.append(item.origin)
            requests.append(Request(source, item.origin.offset, item.origin.length, dest))
        elif item.staged and item.origin.numel():
            requests.append(Request(len(origins), 0, item.origin.nbytes, dest))
            origins.append(item.origin)
    return origins, requests
