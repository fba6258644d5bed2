"""The same as decoding.py's plain operations, as Triton kernels. Import it only where PyTorch brings Triton.

Held against the plain operations at first use (choice.py), bit for bit.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..residency.signature import COLUMNS
from .decoding import STEP, Decoder, checksum, column_on
from .form import BLOCK, Form

_STEP = tl.constexpr(STEP)
_BLOCK = tl.constexpr(BLOCK)
_AT_ONCE = 2048
_SLAB = 1024
"""Blocks at a time, 96 MiB beside the weights: whole layers, as each call costs what copying megabytes takes."""


@triton.jit(do_not_specialize=["first", "count"])  # type: ignore[untyped-decorator]
def _decode(body, bases, weights, first, count, WHOLE: tl.constexpr, AT_ONCE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Blocks of weights from number `first` on; not WHOLE: one, that has `count` weights."""
    block = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * AT_ONCE + tl.arange(0, AT_ONCE)
    size = _BLOCK if WHOLE else count
    half = (size + 1) // 2
    there = at < half  # always, where it is WHOLE
    then_too = at < size - half
    own = body + block * (_BLOCK + _BLOCK // 2)
    base = tl.load(bases + first + block).to(tl.int32)
    pairs = tl.load(own + size + at, mask=there, other=0).to(tl.int32)
    now = tl.load(own + at, mask=there, other=0).to(tl.int32)
    then = tl.load(own + half + at, mask=then_too, other=0).to(tl.int32)
    now = ((now & 128) << 8) | (now & 127) | (((pairs & 15) + base) << 7)
    then = ((then & 128) << 8) | (then & 127) | (((pairs >> 4) + base) << 7)
    to = weights + (first + block) * _BLOCK + at
    tl.store(to, now.to(tl.int16), mask=there)
    tl.store(to + half, then.to(tl.int16), mask=then_too)


@triton.jit(do_not_specialize=["escapes", "count"])  # type: ignore[untyped-decorator]
def _patch(places, bits, weights, escapes, count, AT_ONCE: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * AT_ONCE + tl.arange(0, AT_ONCE)
    there = at < escapes
    place = tl.load(places + at, mask=there, other=0)
    # A damaged place may be anywhere.
    inside = there & (place >= 0) & (place < count)
    tl.store(weights + place, tl.load(bits + at, mask=there, other=0), mask=inside)


@triton.jit(do_not_specialize=["count"])  # type: ignore[untyped-decorator]
def _sum(words, columns, total, count, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, COLUMNS)
    there = row * COLUMNS + at < count
    word = tl.load(words + row * COLUMNS + at, mask=there, other=0).to(tl.int64)
    column = tl.load(columns + at)
    tl.atomic_add(total, tl.sum(word * column) * ((2 * row + 1) * _STEP))


def _unpack(packed: torch.Tensor, weights: torch.Tensor, form: Form) -> None:
    places, bits, bases = form.split(packed)
    for first, last in form.slabs(_SLAB):
        body, count = form.body(packed, first, last), min(BLOCK, form.weights - first * BLOCK)
        grid = (last - first, -(-count // (2 * _AT_ONCE)))
        _decode[grid](body, bases, weights, first, count, WHOLE=count == BLOCK, AT_ONCE=_AT_ONCE)
    if form.escapes:
        grid = (-(-form.escapes // _AT_ONCE), 1)
        _patch[grid](places, bits, weights, form.escapes, form.weights, AT_ONCE=_AT_ONCE)


def _checksum(raw: torch.Tensor) -> torch.Tensor:
    if raw.numel() % 4 or not raw.numel():
        return checksum(raw)
    words = raw.view(torch.int32)
    total = torch.zeros((), dtype=torch.int64, device=raw.device)
    rows = -(-words.numel() // COLUMNS)
    _sum[(rows,)](words, column_on(raw.device), total, words.numel(), COLUMNS=COLUMNS, num_warps=8)
    return total


TRITON = Decoder("Triton", _unpack, _checksum)
