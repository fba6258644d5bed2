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
    """That of a tensor of `size` bytes: so many escapes, or RAW where it is as in the file."""

    size: int
    escapes: int = RAW

    @property
    def weights(self) -> int:
        return self.size // 2

    @property
    def blocks(self) -> int:
        return -(-self.weights // BLOCK)

    @property
    def length(self) -> int:
        """Bytes of it all."""
        if self.escapes == RAW:
            return self.size
        least = self.blocks + 6 * self.escapes + self._body
        return least + (self.size - least) % ALIGN

    @property
    def head(self) -> int:
        """Bytes before the body."""
        return self.length - self._body

    @property
    def _body(self) -> int:
        return self.weights + -(-self.weights // 2)

    def is_possible(self) -> bool:
        """Whether there is a tensor that has it."""
        if self.escapes == RAW:
            return self.size > 0
        fits = self.size % 2 == 0 and 0 < self.weights <= LARGEST and 0 <= self.escapes <= self.weights
        return fits and self.length <= self.size


def encode(bits: NDArray[np.uint16], each: Map = map) -> tuple[Form, Bytes] | None:
    """bf16 weights, as their 16 bits; None where they would not get smaller by a twentieth.

    `each`: as `map`, to do blocks side by side.
    """
    if not 0 < bits.size <= LARGEST:
        return None
    step = _SLAB * BLOCK
    found = list(each(lambda start: _encode(bits[start : start + step], start), range(0, bits.size, step)))
    bases, bodies, slabs = zip(*found, strict=True)
    places = np.concatenate(slabs)
    form = Form(bits.nbytes, places.size)
    if form.length > MOST * form.size:
        return None
    head = np.concatenate([*bases, *(part.view(np.uint8) for part in (places.astype("<i4"), bits[places]))])
    packed = np.zeros(form.length, np.uint8)
    packed[: head.size] = head
    np.concatenate(bodies, out=packed[form.head :])
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
