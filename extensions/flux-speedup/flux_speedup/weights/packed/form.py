"""How a tensor's bytes lie in a packed file, and bf16 weights brought into that form.

A bf16 weight is a sign, 8 bits of exponent and 7 of mantissa, and the exponents of a layer are nearly all alike.
So a weight takes a byte for sign and mantissa, and half a byte for its exponent, as an offset into a window of 15
values that is chosen for each block of weights. What lies outside, a few in ten thousand, is an escape: its place
and its 16 bits follow in a list.

Head (uint8): a base for each block; places of escapes (int32), their bits (int16); zeros. Body: for each block its
signs and mantissas, a byte each, then its exponents, two in a byte: those of its first half are the low half bytes.
The head's zeros are so many that the whole, put at the end of the tensor's memory, begins at a multiple of 64 bytes
there: so it is decoded in place (decoding.py), and takes no memory of its own. All numbers are little endian.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 16
"""Weights."""
WINDOW = 15
ALIGN = 64
MOST = 0.95
"""Of a tensor's bytes: what would take more stays as it is."""
LARGEST = 1 << 30
"""Weights: their places fit 32 bits, and a tensor is encoded in RAM."""
RAW = -1
_SLAB = 32  # blocks at a time
_HIGHEST = 256 - WINDOW

Bytes = NDArray[np.uint8]
Map = Callable[[Callable[[int], "_Slab"], Iterable[int]], Iterable["_Slab"]]
_Slab = tuple[Bytes, Bytes, NDArray[np.int64]]  # bases, body, places of escapes


@dataclass(frozen=True)
class Form:
    """How many weights; how many escapes, or RAW where they are as in the file; `length`: bytes of it all."""

    weights: int
    escapes: int
    length: int

    @property
    def blocks(self) -> int:
        return -(-self.weights // BLOCK)

    @property
    def head(self) -> int:
        """Bytes before the body."""
        return self.length - body_bytes(self.weights)

    def is_possible(self) -> bool:
        """Whether these numbers belong together."""
        if self.escapes == RAW:
            return self.length > 0
        fits = 0 < self.weights <= LARGEST and 0 <= self.escapes <= self.weights
        return fits and self.length == length_of(self.weights, self.escapes) <= 2 * self.weights


def body_bytes(weights: int) -> int:
    """Of so many weights."""
    whole, rest = divmod(weights, BLOCK)
    return whole * (BLOCK + BLOCK // 2) + rest + -(-rest // 2)


def length_of(weights: int, escapes: int) -> int:
    """Bytes of a packed tensor, head and zeros included."""
    least = -(-weights // BLOCK) + 6 * escapes + body_bytes(weights)
    return least + (2 * weights - least) % ALIGN


def encode(bits: NDArray[np.uint16], each: Map = map) -> tuple[Form, Bytes] | None:
    """bf16 weights, as their 16 bits; None where they would not get smaller by a twentieth.

    `each`: as `map`, to do blocks side by side.
    """
    weights = bits.size
    if not 0 < weights <= LARGEST:
        return None
    step = _SLAB * BLOCK
    found = list(each(lambda start: _encode(bits[start : start + step], start), range(0, weights, step)))
    places = np.concatenate([slab[2] for slab in found])
    form = Form(weights, places.size, length_of(weights, places.size))
    if form.length > MOST * 2 * weights:
        return None
    packed = np.zeros(form.length, np.uint8)
    at = form.blocks
    packed[:at] = np.concatenate([slab[0] for slab in found])
    for part in (places.astype("<i4"), bits[places].astype("<u2")):
        packed[at : at + part.nbytes] = part.view(np.uint8)
        at += part.nbytes
    at = form.head
    for _, body, _ in found:
        packed[at : at + body.size] = body
        at += body.size
    return form, packed


def _encode(bits: NDArray[np.uint16], start: int) -> _Slab:
    exponents = (bits >> 7).astype(np.uint8)  # without the sign, which the cast drops
    kept = (((bits >> 8) & 0x80) | (bits & 0x7F)).astype(np.uint8)
    bases, body, escapes = [], [], []
    for first, (own, rest) in enumerate(zip(_blocks(exponents), _blocks(kept), strict=True)):
        base = _base(own)
        codes = own - base  # below the window it wraps around, and is above it too
        outside = codes >= WINDOW
        codes[outside] = WINDOW
        half = -(-codes.size // 2)
        pairs = codes[:half].copy()
        pairs[: codes.size - half] += codes[half:] * np.uint8(16)
        bases.append(base)
        body += [rest, pairs]
        escapes.append(np.flatnonzero(outside) + (start + first * BLOCK))
    return np.array(bases, np.uint8), np.concatenate(body), np.concatenate(escapes)


def _blocks(all_of: Bytes) -> Iterator[Bytes]:
    return (all_of[start : start + BLOCK] for start in range(0, all_of.size, BLOCK))


def _base(exponents: Bytes) -> np.uint8:
    """The window with most of them in it."""
    sums = np.concatenate(([0], np.cumsum(np.bincount(exponents, minlength=256))))
    return np.uint8(np.argmax(sums[WINDOW:] - sums[: _HIGHEST + 1]))
