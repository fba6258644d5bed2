"""A checksum of each tensor, taken where the tensor is: has anybody written there since?

The bytes are looked at as 64 bit words in a table of about as many columns as rows. Sums of rows and of
columns (exact, modulo 2^64) notice every change of one word and every swap of two different ones; each sum
is then mixed with its place and added up, so that swapped or reversed rows are noticed too. Words left over
after the table and bytes left over after the words go in one by one. Made against accidents, not against
somebody who wants to deceive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

_WORD = 8
_MOST_COLUMNS = 1 << 13
# Odd constants of SplitMix64 (Steele, Lea, Flood 2014), as signed numbers.
_STEP = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_AGAIN = 0x94D049BB133111EB - (1 << 64)


@dataclass(frozen=True)
class _Shape:
    """How the bytes of one tensor are looked at: a table of words, words left over, bytes left over."""

    rows: int
    columns: int
    words: int
    tail: int

    @classmethod
    def of(cls, size: int) -> _Shape:
        words, tail = divmod(size, _WORD)
        columns = min(_MOST_COLUMNS, 1 << (math.isqrt(words).bit_length() - 1)) if words else 0
        rows = words // columns if columns else 0
        return cls(rows, columns, words - rows * columns, tail)

    @property
    def length(self) -> int:
        return self.rows + self.columns + self.words + self.tail


def checksums(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """One int64 per tensor, a vector on their common device. Waits for nothing; reads every tensor twice.

    A tensor's checksum does not depend on the others. Takes a few kernels a tensor, and while it runs 16
    bytes per square root of a tensor's words.
    """
    with torch.inference_mode():
        if not tensors:
            return torch.empty(0, dtype=torch.int64)
        device = tensors[0].device
        shapes = [_Shape.of(tensor.nbytes) for tensor in tensors]
        sums = torch.empty(sum(shape.length for shape in shapes), dtype=torch.int64, device=device)
        start = 0
        for tensor, shape in zip(tensors, shapes, strict=True):
            _sum_into(sums[start : start + shape.length], tensor, shape)
            start += shape.length
        return _mixed(sums, [shape.length for shape in shapes])


def changed(before: torch.Tensor, after: torch.Tensor) -> list[bool]:
    """Which checksums differ; the one place where the host waits for the device."""
    answer: list[bool] = (before != after).tolist()
    return answer


def _sum_into(target: torch.Tensor, tensor: torch.Tensor, shape: _Shape) -> None:
    raw = _raw(tensor)
    position = 0
    if shape.columns:
        words = raw[: raw.numel() - shape.tail].view(torch.int64)
        table = words[: shape.rows * shape.columns].view(shape.rows, shape.columns)
        torch.sum(table, 1, out=target[: shape.rows])
        torch.sum(table, 0, out=target[shape.rows : shape.rows + shape.columns])
        position = shape.rows + shape.columns
        if shape.words:
            target[position : position + shape.words].copy_(words[shape.rows * shape.columns :])
            position += shape.words
    if shape.tail:
        target[position:].copy_(raw[raw.numel() - shape.tail :])


def _raw(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes in the order of the elements, at an address where words can be read."""
    raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    return raw if raw.data_ptr() % _WORD == 0 else raw.clone()


def _mixed(sums: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """Each tensor's sums mixed with their place in it, and added up."""
    device = sums.device
    counts = torch.tensor(lengths, dtype=torch.int64).to(device, non_blocking=True)
    owner = torch.repeat_interleave(
        torch.arange(len(lengths), device=device), counts, output_size=sums.numel()
    )
    place = torch.arange(sums.numel(), device=device) - (counts.cumsum(0) - counts)[owner]
    mixed = sums + (place + 1) * _STEP
    mixed = (mixed ^ (mixed >> 30)) * _MIX
    mixed = (mixed ^ (mixed >> 27)) * _MIX_AGAIN
    mixed = mixed ^ (mixed >> 31)
    return torch.zeros(len(lengths), dtype=torch.int64, device=device).index_add_(0, owner, mixed)
