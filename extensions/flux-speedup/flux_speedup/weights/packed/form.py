"""How a tensor's bytes lie in a packed file.

A bf16 weight is a sign, 8 bits of exponent and 7 of mantissa, and the exponents of a layer are nearly all alike.
So a weight takes a byte for sign and mantissa, and half a byte for its exponent, as an offset into a window of 15
values that is chosen for each block of weights. What lies outside, a few in ten thousand, is an escape: its place
and its 16 bits follow in a list.

Head: places of escapes (int32), their bits (int16); a base (uint8) for each block; zeros. Body: for each block its
signs and mantissas, a byte each, then its exponents, two in a byte: those of its first half are the low half bytes.
The head's zeros are so many that the whole, put at the end of the tensor's memory, begins at a multiple of 64 bytes
there: so it is decoded in place (decoding.py), and takes no memory of its own. All numbers are little endian.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch

VERSION = 1
"""Of all that is told here, and of the index: what another one made does not count."""
BLOCK = 1 << 16
"""Weights."""
PAIR = BLOCK + BLOCK // 2
"""Bytes of a block's body."""
WINDOW = 15
ALIGN = 64
RAW, ABSENT = -1, -2
"""In the place of a number of escapes: it is as in the weight file; it is in the weight file alone."""


@dataclass(frozen=True)
class Form:
    """That of a tensor of `size` bytes: so many escapes, RAW or ABSENT."""

    size: int
    escapes: int

    @property
    def weights(self) -> int:
        return self.size // 2

    @property
    def blocks(self) -> int:
        return -(-self.weights // BLOCK)

    @property
    def length(self) -> int:
        """Bytes of it all."""
        if self.escapes < 0:
            return self.size if self.escapes == RAW else 0
        least = self.blocks + 6 * self.escapes + self._body
        return least + (self.size - least) % ALIGN

    @property
    def head(self) -> int:
        """Bytes before the body."""
        return self.length - self._body

    @property
    def _body(self) -> int:
        return self.weights + -(-self.weights // 2)

    def slabs(self, most: int) -> Iterator[tuple[int, int]]:
        """First and last of so many blocks at a time; one that is not whole is alone."""
        whole = self.weights // BLOCK
        return pairwise(sorted({*range(0, whole, most), whole, self.blocks}))

    def split(self, packed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of its bytes: places of escapes, their bits, and bases; copies, as what is decoded will lie there."""
        bits, bases = 4 * self.escapes, 6 * self.escapes
        head = packed[: self.head].clone()
        return head[:bits].view(torch.int32), head[bits:bases].view(torch.int16), head[bases:]

    def body(self, packed: torch.Tensor, first: int, last: int) -> torch.Tensor:
        """The body of these blocks; a copy too."""
        return packed[self.head + first * PAIR : self.head + last * PAIR].clone()
