"""The same as decoding.py's plain operations, as Triton kernels. Import it only where PyTorch brings Triton.

Held against the plain operations at first use (choice.py), bit for bit.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..residency.signature import COLUMNS
from .decoding import STEP, Decoder, checksum, column_on
from .form import BLOCK

_STEP = tl.constexpr(STEP)
_BLOCK = tl.constexpr(BLOCK)
_AT_ONCE = 2048


@triton.jit  # type: ignore[untyped-decorator]
def _decode(body, bases, weights, AT_ONCE: tl.constexpr):  # type: ignore[no-untyped-def]
    block = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * AT_ONCE + tl.arange(0, AT_ONCE)
    half: tl.constexpr = _BLOCK // 2
    own = body + block * (_BLOCK + half)
    base = tl.load(bases + block).to(tl.int32)
    pairs = tl.load(own + _BLOCK + at).to(tl.int32)
    first = tl.load(own + at).to(tl.int32)
    then = tl.load(own + half + at).to(tl.int32)
    first = ((first & 128) << 8) | (first & 127) | (((pairs & 15) + base) << 7)
    then = ((then & 128) << 8) | (then & 127) | (((pairs >> 4) + base) << 7)
    to = weights + block * _BLOCK + at
    tl.store(to, first.to(tl.int16))
    tl.store(to + half, then.to(tl.int16))


@triton.jit  # type: ignore[untyped-decorator]
def _sum(words, columns, total, count, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, COLUMNS)
    there = row * COLUMNS + at < count
    word = tl.load(words + row * COLUMNS + at, mask=there, other=0).to(tl.int64)
    column = tl.load(columns + at)
    tl.atomic_add(total, tl.sum(word * column) * ((2 * row + 1) * _STEP))


def _blocks(body: torch.Tensor, bases: torch.Tensor, weights: torch.Tensor) -> None:
    if weights.shape[1] != BLOCK:
        raise ValueError(f"a block of {weights.shape[1]} weights")
    _decode[(weights.shape[0], BLOCK // 2 // _AT_ONCE)](body, bases, weights, AT_ONCE=_AT_ONCE)


def _checksum(raw: torch.Tensor) -> torch.Tensor:
    if raw.numel() % 4 or not raw.numel():
        return checksum(raw)
    words = raw.view(torch.int32)
    total = torch.zeros((), dtype=torch.int64, device=raw.device)
    rows = -(-words.numel() // COLUMNS)
    _sum[(rows,)](words, column_on(raw.device), total, words.numel(), COLUMNS=COLUMNS, num_warps=8)
    return total


# Whole layers at once, 96 MiB beside the weights: each more call costs what copying megabytes takes.
TRITON = Decoder("Triton", _blocks, _checksum, slab=1024)
