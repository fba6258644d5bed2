"""A span: the bytes of a file that a tensor consists of, found through the mapping it is a view of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch

from .mapping import MAPPINGS, FileIdentity, Near, Registry, Standing


class Span(NamedTuple):
    """`length` bytes at `offset` of one exact file, read as `dtype` in `shape` (contiguous)."""

    path: Path
    identity: FileIdentity
    offset: int
    length: int
    dtype: torch.dtype
    shape: tuple[int, ...]


def find(tensor: torch.Tensor, registry: Registry | Near = MAPPINGS) -> Span | None:
    """The span of a tensor, or None if it is not a view of a mapping that lives now (slices are views too).

    An address alone proves nothing, as addresses are used again: the mapping that owns it must be alive,
    and as the tensor's own storage is one of the things that keep it alive, storage and bytes must lie
    inside it whole.
    """
    return within(tensor, registry) if plain(tensor) and tensor.is_cpu else None


def within(tensor: torch.Tensor, registry: Registry | Near) -> Span | None:
    """`find`, for one that is known to be plain and on the CPU."""
    if not tensor.is_contiguous():
        return None
    length = tensor.nbytes
    if length == 0:
        return None
    address = tensor.data_ptr()
    mapping = registry.around(address, length)
    if mapping is None or not mapping.holds(tensor.untyped_storage()):
        return None
    if mapping.standing is not Standing.FILE:
        return None
    offset = address - mapping.address
    if offset < mapping.header.data_start:
        return None
    return Span(mapping.path, mapping.identity, offset, length, tensor.dtype, tuple(tensor.shape))


def lost_among(tensors: Iterable[torch.Tensor], registry: Registry = MAPPINGS) -> Path | None:
    """A file that was written over while one of these tensors viewed it, and whose old bytes are gone.

    What such a tensor shows are zeros: never compute with it, build it anew from the file as it is now.
    """
    lost = registry.lost()
    for tensor in tensors if lost else ():
        if tensor.layout is torch.strided and tensor.device.type == "cpu":
            mapping = next((each for each in lost if each.has(tensor.data_ptr())), None)
            if mapping is not None:
                return mapping.path
    return None


def plain(tensor: torch.Tensor) -> bool:
    """A dense tensor whose values are its bytes: no sparse, quantised, meta, conjugated or wrapped one."""
    return type(tensor) in (torch.Tensor, torch.nn.Parameter) and dense(tensor)


def dense(tensor: torch.Tensor) -> bool:
    """Whether its `data` have its values as bytes, whatever its class makes of them."""
    return (
        tensor.layout is torch.strided
        and not tensor.is_quantized
        and not tensor.is_meta
        and not tensor.is_conj()
        and not tensor.is_neg()
    )
