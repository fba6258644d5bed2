"""Packed tensors decoded where they lie: at the end of the memory that the weights will fill.

Weights are written from the front, and each takes more bytes than its packed form had: what is written never
reaches what is still to be read, but for the slab at hand, which is copied first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..residency.signature import COLUMNS, factors
from .form import BLOCK, Form

SLAB = 128
"""Blocks at a time: 12 MiB beside the weights, and as much again for what plain operations compute."""
STEP = 0x9E3779B97F4A7C15 - (1 << 64)
ROW = 4 * COLUMNS
_ROWS = 256
_ROWS_ON_CPU = 64
"""At a time; what is computed of them stays in a processor's cache."""

Decode = Callable[[torch.Tensor, torch.Tensor, Form], None]
"""Makes weights (int16) of the packed form (uint8), which is at the end of their memory."""
Sum = Callable[[torch.Tensor], torch.Tensor]
"""`checksum`, in another way."""


@dataclass(frozen=True)
class Decoder:
    """What works on a device, by name; `rate`: bytes of weights a second."""

    name: str
    decode: Decode
    sum: Sum
    rate: float = 0.0


def unpack(memory: torch.Tensor, form: Form, decoder: Decoder, *, right: bool = False) -> torch.Tensor | None:
    """Make the weights (2 bytes each) of the packed form at the end of `memory` (uint8, one dimension).

    Queues work on the current stream and waits for nothing. Answers with the checksum of the form's bytes, unless
    they were seen to be `right`: what is made of others than were written must not be used.
    """
    packed = memory[memory.numel() - form.length :]
    total = None if right else decoder.sum(packed)
    if form.escapes >= 0:
        decoder.decode(packed, memory.view(torch.int16), form)
    return total


def _decode(packed: torch.Tensor, weights: torch.Tensor, form: Form) -> None:
    places, bits, bases = form.split(packed)
    for first, last in form.slabs(SLAB):
        body, out = form.body(packed, first, last), weights[first * BLOCK : last * BLOCK]
        _blocks(body.view(last - first, -1), bases[first:last], out.view(last - first, -1))
    if form.escapes:
        # Where it is damaged: no place outside, which a GPU would not forgive.
        weights.index_copy_(0, places.long().clamp_(0, form.weights - 1), bits)


def _blocks(body: torch.Tensor, bases: torch.Tensor, weights: torch.Tensor) -> None:
    """In plain operations, which run on any device; weights have a row each block, all as long as the first."""
    count = weights.shape[1]
    half = -(-count // 2)
    base = bases.to(torch.int16).view(-1, 1)
    pairs = body[:, count:]
    for start, end, codes in ((0, half, pairs & 15), (half, count, (pairs >> 4)[:, : count - half])):
        out = weights[:, start:end]
        out.copy_(codes)
        out.add_(base).bitwise_left_shift_(7)
        # The sign goes with its byte to the top; of what is between, the exponent takes the place.
        out.bitwise_or_(body[:, start:end].view(torch.int8).to(torch.int16).bitwise_and_(0x807F - 0x10000))


def checksum(raw: torch.Tensor) -> torch.Tensor:
    """Of bytes (uint8, one dimension), int64 of no dimension, on their device; the same on every device.

    As in residency/signature.py, with an odd factor for each row too, modulo 2^64: any change of one word shows.
    """
    column = column_on(raw.device)
    total = torch.zeros((), dtype=torch.int64, device=raw.device)
    many = (_ROWS_ON_CPU if raw.device.type == "cpu" else _ROWS) * ROW
    for first in range(0, raw.numel(), many):
        part = raw[first : first + many]
        if missing := -part.numel() % ROW:
            part = torch.nn.functional.pad(part, (0, missing))
        rows = part.view(torch.int32).view(-1, COLUMNS)
        numbers = torch.arange(rows.shape[0], dtype=torch.int64, device=raw.device) + first // ROW
        total += ((rows * column).sum(1) * (2 * numbers + 1) * STEP).sum()
    return total


PLAIN = Decoder("plain", _decode, checksum)


@functools.cache
def column_on(device: torch.device) -> torch.Tensor:
    """The factors of a row's words."""
    with torch.inference_mode(False):
        return factors().to(device)
