"""A checksum of each tensor of one load, taken where the tensor is: has anybody written there since?

The bytes are looked at as 32 bit words, in rows. Each word is multiplied by an odd 64 bit number that belongs to
its place in the row, and each row's products are added up modulo 2^64 (multilinear hashing: Carter, Wegman 1979;
Thorup, "High speed hashing for integers and strings", 2015). Every change of one word is noticed; changes of
several cancel each other once in 2^31 or less, wherever they are. Made against accidents, not against somebody who
wants to deceive.

Everything this needs on the device is taken when the signature is made, which is at load. Looking again takes no
memory there: it must work on a card that is full.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
import weakref
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import torch

from ... import shortage
from ..snapshot import snapshot
from .known_sums import KNOWN, KnownSums

_WORD = 4
COLUMNS = 1 << 13
# At once: what is read (16 MiB) and the products (32 MiB) stay in a large card's cache. Fewer where room is short.
_ROWS = (512, 64, 8, 1)
_STREAMS = ("cuda", "xpu")


class _Scratch:
    """Room for products, and the numbers that places have: one a device, while a signature there lives."""

    def __init__(self, device: torch.device) -> None:
        """Raises torch.OutOfMemoryError."""
        self._device = device
        self._lock = threading.Lock()
        self._stream: Any = None
        try:
            self.factors = _factors_on(device)  # made there: a copy would wait behind all that is on its way
        except RuntimeError as error:
            if not shortage.of_card(error):
                raise
            self.factors = factors().to(device)  # takes less
        # Views of what is here, which many tensors of a model need alike.
        self._rows: dict[int, torch.Tensor] = {}
        self._words: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        for self.rows in _ROWS:
            try:
                self.products = torch.empty((self.rows, COLUMNS), dtype=torch.int64, device=device)
            except RuntimeError as error:
                if self.rows == _ROWS[-1] or not shortage.of_card(error):
                    raise
            else:
                return

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """What is queued in here, on the stream that is current, is no other thread's, and follows what was queued
        before on whichever stream that was."""
        module: Any = getattr(torch, self._device.type, None) if self._device.type in _STREAMS else None
        with self._lock:
            stream: Any = None if module is None else module.current_stream(self._device)
            if self._stream is not None and stream != self._stream:
                stream.wait_stream(self._stream)
            self._stream = stream
            yield

    def first_rows(self, count: int) -> torch.Tensor:
        """Room for so many rows of products."""
        if count not in self._rows:
            self._rows[count] = self.products[:count]
        return self._rows[count]

    def first_words(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Room for the products of less than a row, and its factors."""
        if count not in self._words:
            self._words[count] = self.products[0, :count], self.factors[:count]
        return self._words[count]


_scratches: weakref.WeakValueDictionary[torch.device, _Scratch] = weakref.WeakValueDictionary()
_living: weakref.WeakSet[Signature] = weakref.WeakSet()


def taken(device: torch.device) -> int:
    """Bytes of the device that checksums take now."""
    living = [one for one in snapshot(lambda: _living) if one._device == device]
    scratches = {one._scratch for one in living}  # shared, and those of what is on its way by itself
    sums = sum(one._sums.nbytes for one in living)
    return sums + sum(each.factors.nbytes + each.products.nbytes for each in scratches)


class Signature:
    """The checksums of tensors that come one by one. Takes some kernels a tensor, and waits for nothing.

    Holds on the device, for 32 KiB of weights, 16 bytes, and 32 MiB at most that all signatures there share (uses
    of it follow each other, whichever thread and stream they are on).
    """

    def __init__(
        self,
        sizes: Sequence[int],
        device: torch.device,
        *,
        alone: bool = False,
        keys: Sequence[Hashable] = (),
        known: KnownSums = KNOWN,
    ) -> None:
        """`sizes`: bytes of each tensor. `alone`: until `join` it shares nothing, so that tensors may come while
        other signatures are at work. `keys`: of each tensor, or of none, what names its bytes for good; None where
        nothing does. Raises torch.OutOfMemoryError.
        """
        self._device = device
        self._keys = keys
        self._known = known
        self._given: dict[int, torch.Tensor] = {}
        self._new: dict[int, Hashable] = {}  # summed up here, with a key, and not noted yet
        self._lengths = [_length(size) for size in sizes]
        self._ends = list(itertools.accumulate(self._lengths))
        with torch.inference_mode():
            scratch = None if alone else _scratches.get(device)
            if scratch is None:
                scratch = _Scratch(device)
            self._scratch = scratch if alone else _scratches.setdefault(device, scratch)
            shape = (2, self._ends[-1] if self._ends else 0)
            self._sums = torch.zeros(shape, dtype=torch.int64, device=device)
        _living.add(self)

    def join(self) -> None:
        """From now on it shares what the others on the device share; everything has come."""
        self._scratch = _scratches.setdefault(self._device, self._scratch)

    @functools.cached_property
    def _first(self) -> Sequence[torch.Tensor]:
        # When the first tensor has come: then others are on their way, and nobody waits for this.
        return self._sums[0].split_with_sizes(self._lengths)

    def add(self, number: int, tensor: torch.Tensor) -> None:
        """Sum up tensor `number` as it is right after its arrival, on the stream that is current, if need be."""
        key = self._keys[number] if self._keys else None
        given = None if key is None else self._known.of(key)
        if given is not None:
            self._given[number] = given
            return
        with torch.inference_mode(), self._scratch.taken():
            _sum_into(self._first[number], tensor, self._scratch)
        if key is not None:
            self._new[number] = key

    def changed(self, tensors: Mapping[int, torch.Tensor]) -> list[int]:
        """Which of these, by number, are not what they were at `add`. Takes no memory on the device.

        Waits for the device. Raises RuntimeError where that fails.
        """
        with torch.inference_mode():
            again = self._sums[1].split_with_sizes(self._lengths)
            with self._scratch.taken():
                for number, tensor in tensors.items():
                    _sum_into(again[number], tensor, self._scratch)
            first, now = self._sums.cpu()
            self._note(first)
            for number in self._given.keys() & tensors.keys():
                self._of(first, number).copy_(self._given[number])
        if torch.equal(first, now):
            return []
        return [
            number for number in tensors if not torch.equal(self._of(first, number), self._of(now, number))
        ]

    def learn(self) -> None:
        """Remember what was summed up, for the loads that follow, where nobody asks whether it was changed.

        Waits for the device. Raises RuntimeError where that fails.
        """
        if self._new:
            with torch.inference_mode():
                self._note(self._sums[0].cpu())

    def _note(self, first: torch.Tensor) -> None:
        while self._new:
            number, key = self._new.popitem()
            self._known.note(key, self._of(first, number).clone())

    def _of(self, sums: torch.Tensor, number: int) -> torch.Tensor:
        end = self._ends[number]
        return sums[end - self._lengths[number] : end]


def _length(size: int) -> int:
    words, tail = divmod(size, _WORD)
    return -(-words // COLUMNS) + tail


def _sum_into(target: torch.Tensor, tensor: torch.Tensor, scratch: _Scratch) -> None:
    # As few operations as can be: while a load runs, each of them waits for the interpreter's lock.
    words, tail = _words(tensor)
    whole, rest = divmod(words.numel(), COLUMNS)
    if whole:
        rows = (words[: whole * COLUMNS] if rest else words).view(whole, COLUMNS)
        sums = target[:whole] if rest or tail is not None else target
        counts = [min(scratch.rows, whole - start) for start in range(0, whole, scratch.rows)]
        parts = [(one,) if len(counts) == 1 else one.split_with_sizes(counts) for one in (rows, sums)]
        for count, part, into in zip(counts, *parts, strict=True):
            products = scratch.first_rows(count)
            torch.mul(part, scratch.factors, out=products)
            torch.sum(products, 1, out=into)
    if rest:
        products, factors = scratch.first_words(rest)
        torch.mul(words[whole * COLUMNS :] if whole else words, factors, out=products)
        torch.sum(products, 0, out=target[whole])
    if tail is not None:
        target[target.numel() - tail.numel() :].copy_(tail)


def _words(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What a tensor without holes has in memory, in that order, as words, and the bytes that are left."""
    # Not a view of the tensor itself: made under inference mode and given ordinary data, it has none.
    flat = tensor.data.as_strided((tensor.numel(),), (1,))
    tail = flat.nbytes % _WORD
    if not tail:
        return flat.view(torch.int32), None
    flat = flat.view(torch.uint8)
    return flat[:-tail].view(torch.int32), flat[-tail:]


@functools.cache
def factors() -> torch.Tensor:
    """Those of `_factors_on`, at home. Nobody writes there."""
    return _factors_on(torch.device("cpu"))


def _factors_on(device: torch.device) -> torch.Tensor:
    """Odd numbers that look random: SplitMix64 (Steele, Lea, Flood 2014) of the place."""
    step, mix, again = (number - (1 << 64) for number in _SPLITMIX)
    with torch.inference_mode(False):
        x = (torch.arange(COLUMNS, dtype=torch.int64, device=device) + 1) * step
        x = (x ^ _right(x, 30)) * mix
        x = (x ^ _right(x, 27)) * again
        return (x ^ _right(x, 31)) | 1


def _right(x: torch.Tensor, count: int) -> torch.Tensor:
    """A shift without sign."""
    return (x >> count) & ((1 << (64 - count)) - 1)


_SPLITMIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
