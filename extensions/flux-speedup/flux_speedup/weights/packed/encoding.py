"""bf16 weights brought into their packed form, and held against it; in NumPy, which starts no threads of its own.

All of it by slabs that stay in a processor's cache, and large enough that threads seldom meet in the interpreter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..residency.signature import factors
from .decoding import ROW, STEP
from .form import ALIGN, BLOCK, PAIR, WINDOW, Form

MOST = 0.95
"""Of a tensor's bytes: what would take more stays as it is."""
LARGEST = 1 << 30
"""Weights: their places fit 32 bits, and a tensor is encoded in RAM."""
SLAB = 8
"""Blocks at a time."""
SAMPLED = 33
"""Every so manyth exponent is counted to choose a block's window; odd, as what repeats in a layer is even."""
FEW = 128
"""Where more than one in so many lies outside of it, all are counted."""
_SUMMED = 64 * ROW

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint16]
Map = Callable[..., Iterable[Any]]
"""As `map`, to do things side by side."""


def encode(bits: Words, each: Map = map) -> tuple[Form, Bytes] | None:
    """bf16 weights, as their 16 bits; None where they would not get smaller by a twentieth."""
    form = Form(bits.nbytes, 0)
    if not 0 < bits.size <= LARGEST or form.length > MOST * form.size:
        return None
    room = np.empty(form.size - int((1 - MOST) * form.size) // ALIGN * ALIGN, np.uint8)
    body = room[room.size - (form.length - form.head) :]
    found = each(lambda slab: _encode(bits, body, *slab), form.slabs(SLAB))
    bases, escapes = map(np.concatenate, zip(*found, strict=True))
    form = Form(bits.nbytes, escapes.size)
    if form.length > MOST * form.size:
        return None
    packed = room[room.size - form.length :]
    head = np.concatenate([escapes.astype("<i4").view(np.uint8), bits[escapes].view(np.uint8), bases])
    packed[: head.size], packed[head.size : form.head] = head, 0
    return form, packed


def comes_back(form: Form, packed: Bytes, bits: Words, each: Map = map) -> bool:
    """Whether decoding makes exactly these weights of a form whose checksum was right."""
    at = 6 * form.escapes
    places, own = packed[: 4 * form.escapes].view("<i4"), packed[4 * form.escapes : at].view("<u2")

    def same(slab: tuple[int, int]) -> bool:
        first, last = slab
        start, wanted = first * BLOCK, _rows(bits, first, last, BLOCK)
        words = _decode(_rows(packed[form.head :], first, last, PAIR), packed[at + first : at + last], wanted)
        here = slice(*np.searchsorted(places, (start, last * BLOCK)))
        words.reshape(-1)[places[here] - start] = own[here]
        return np.array_equal(words, wanted)

    return all(each(same, form.slabs(SLAB)))


def checksum(raw: Bytes, each: Map = map) -> int:
    """As decoding.checksum."""
    column = factors().numpy()

    def part(first: int) -> int:
        words = raw[first : first + _SUMMED]
        if missing := -words.size % ROW:
            words = np.pad(words, (0, missing))
        rows = words.view(np.int32).reshape(-1, column.size)
        numbers = np.arange(len(rows), dtype=np.int64) + first // ROW
        return int(((rows * column).sum(1) * (2 * numbers + 1) * STEP).sum())

    total = sum(each(part, range(0, raw.size, _SUMMED)))
    return (total + (1 << 63)) % (1 << 64) - (1 << 63)


class _Scratch(threading.local):
    """A thread's own, which stays in its processor's cache: fresh memory takes longer than what is done in it."""

    def __init__(self) -> None:
        self.words = np.empty((2, SLAB * BLOCK), np.uint16)
        self.codes = np.empty(SLAB * BLOCK, np.uint8)
        self.outside = np.empty(SLAB * BLOCK, np.bool_)


_scratch = _Scratch()


def _rows(of: NDArray[Any], first: int, last: int, size: int) -> NDArray[Any]:
    """These blocks of an array, a row each; one that is not whole is alone."""
    return of[first * size : last * size].reshape(last - first, -1)


def _encode(bits: Words, body: Bytes, first: int, last: int) -> tuple[Bytes, NDArray[np.int64]]:
    """Bases and places of escapes of these blocks, whose body is written."""
    rows, out = _rows(bits, first, last, BLOCK), _rows(body, first, last, PAIR)
    count, half = rows.shape[1], -(-rows.shape[1] // 2)
    one, two = _scratch.words[:, : rows.size].reshape(2, *rows.shape)
    codes, outside = _scratch.codes[: rows.size].reshape(rows.shape), _scratch.outside[: rows.size]
    np.bitwise_and(rows, 0x807F, out=one)
    np.right_shift(one, 8, out=two)
    out[:, :count] = np.bitwise_or(one, two, out=one)
    exponents = np.right_shift(rows, 7, out=one)
    for step in (SAMPLED, 1):
        codes[:] = exponents  # without the sign, which the cast drops
        bases = _bases(codes[:, :: step if count == BLOCK else 1])
        codes -= bases[:, None]  # below the window it wraps around, and is above it too
        np.greater_equal(codes.reshape(-1), WINDOW, out=outside)
        places = np.flatnonzero(outside)
        if places.size * FEW <= rows.size:
            break
    codes.reshape(-1)[places] = WINDOW
    pairs = out[:, count:]
    pairs[:] = codes[:, :half]
    pairs[:, : count - half] += np.multiply(codes[:, half:], 16, out=codes[:, half:])
    return bases, places + first * BLOCK


def _bases(exponents: Bytes) -> Bytes:
    """For each row the window with most of them in it."""
    numbered = exponents + np.arange(0, 256 * len(exponents), 256)[:, None]
    counts = np.bincount(numbered.reshape(-1), minlength=numbered.shape[0] * 256).reshape(-1, 256)
    sums = np.pad(np.cumsum(counts, axis=1), ((0, 0), (1, 0)))
    bases: Bytes = np.argmax(sums[:, WINDOW:] - sums[:, :-WINDOW], axis=1).astype(np.uint8)
    return bases


def _decode(body: Bytes, bases: Bytes, like: Words) -> Words:
    words: Words
    kept: Words
    count, half = like.shape[1], -(-like.shape[1] // 2)
    words, kept = _scratch.words[:, : like.size].reshape(2, *like.shape)
    codes = _scratch.codes[: like.size].reshape(like.shape)
    np.bitwise_and(body[:, count:], 15, out=codes[:, :half])
    np.right_shift(body[:, count : 2 * count - half], 4, out=codes[:, half:])
    codes += bases[:, None]
    words[:], kept[:] = codes, body[:, :count]
    words <<= 7
    np.bitwise_or(kept, kept << 8, out=kept)
    kept &= 0x807F
    words |= kept
    return words
