"""A checksum of each tensor, taken where the tensor is: has anybody written there since?

The bytes are looked at as 64 bit words in a table of about as many columns as rows. Sums of rows and of
columns (exact, modulo 2^64) notice every change of one word and every swap of two different ones; each sum
is then mixed with its place and added up, so that swapped or reversed rows are noticed too. Words left over
after the table and bytes left over after the words go in one by one. Made against accidents, not against
somebody who wants to deceive.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

_WORD = 8
_MOST_COLUMNS = 1 << 13
_MIXED_AT_ONCE = 1 << 18
_FEW_WORDS = 1 << 8
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
        if words <= _FEW_WORDS:
            return cls(0, 0, words, tail)
        columns = min(_MOST_COLUMNS, 1 << (math.isqrt(words).bit_length() - 1))
        rows = words // columns
        return cls(rows, columns, words - rows * columns, tail)

    @property
    def length(self) -> int:
        return self.rows + self.columns + self.words + self.tail


class Digest:
    """The checksums of tensors that come one by one. Takes a few kernels a tensor and waits for nothing.

    Besides, it takes about 16 bytes for each square root of a tensor's words, on the device, until `result`.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        """`sizes`: bytes of each tensor."""
        self._shapes = [_Shape.of(size) for size in sizes]
        lengths = [shape.length for shape in self._shapes]
        self._starts = [
            end - length for end, length in zip(itertools.accumulate(lengths), lengths, strict=True)
        ]
        self._sums: torch.Tensor | None = None

    def add(self, number: int, tensor: torch.Tensor) -> None:
        """Sum up tensor `number`, on the device's stream that is current; all tensors are on one device."""
        shape, start = self._shapes[number], self._starts[number]
        with torch.inference_mode():
            if self._sums is None:
                length = sum(shape.length for shape in self._shapes)
                self._sums = torch.empty(length, dtype=torch.int64, device=tensor.device)
            _sum_into(self._sums[start : start + shape.length], tensor, shape)

    def result(self) -> torch.Tensor:
        """One int64 per tensor, in order; each depends on its tensor alone."""
        with torch.inference_mode():
            if self._sums is None:
                return torch.zeros(len(self._shapes), dtype=torch.int64)
            return torch.cat([_mixed(self._sums, part) for part in self._parts()])

    def _parts(self) -> Iterator[tuple[int, list[int]]]:
        """Tensors in groups whose sums are few, as mixing takes some times their memory."""
        group: list[int] = []
        first = 0
        for start, shape in zip(self._starts, self._shapes, strict=True):
            if start - first > _MIXED_AT_ONCE:
                yield first, group
                group, first = [], start
            group.append(shape.length)
        if group:
            yield first, group


def checksums(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The checksums of tensors on one device, as a vector there."""
    digest = Digest([tensor.nbytes for tensor in tensors])
    for number, tensor in enumerate(tensors):
        digest.add(number, tensor)
    return digest.result()


def changed(before: torch.Tensor, after: torch.Tensor) -> list[bool]:
    """Which checksums differ; the one place where the host waits for the device."""
    answer: list[bool] = (before != after).tolist()
    return answer


def _sum_into(target: torch.Tensor, tensor: torch.Tensor, shape: _Shape) -> None:
    raw = _raw(tensor)
    sums = torch.split(target, [shape.rows, shape.columns, shape.words, shape.tail])
    words = raw[: raw.numel() - shape.tail].view(torch.int64)
    if shape.columns:
        table = words[: shape.rows * shape.columns].view(shape.rows, shape.columns)
        torch.sum(table, 1, out=sums[0])
        torch.sum(table, 0, out=sums[1])
    if shape.words:
        sums[2].copy_(words[shape.rows * shape.columns :])
    if shape.tail:
        sums[3].copy_(raw[raw.numel() - shape.tail :])


def _raw(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes in the order of the elements, at an address where words can be read."""
    raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    aligned = raw.data_ptr() % _WORD == 0 and raw.storage_offset() % _WORD == 0
    return raw if aligned else raw.clone()


def _mixed(every: torch.Tensor, part: tuple[int, list[int]]) -> torch.Tensor:
    """The sums of one group of tensors, each mixed with its place in its tensor, added up by tensor."""
    start, lengths = part
    sums = every[start : start + sum(lengths)]
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
