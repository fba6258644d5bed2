"""What is registered of files, for whoever reads it: the bytes themselves, on loan for as long as a load takes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch

from ..files.mapping import FileIdentity
from ..files.span import Span
from .held_files import HeldFile, HeldFiles
from .item import Item
from .registration import Registrar

_Cut = Callable[[int, int], tuple[torch.Tensor, ...]]


class Reach(NamedTuple):
    """Bytes of a weight that is in no file, from the beginning of what is registered on."""

    offset: int
    length: int


class Straight(dict[int, tuple[_Cut, Span | Reach]]):
    """By number, items whose bytes the device can read where they are, file by file."""

    def pieces(self, number: int) -> tuple[torch.Tensor, ...]:
        """Its bytes, in pieces that each lie in one registration. Cut only now: others are on their way then."""
        cut, span = self[number]
        return cut(span.offset, span.length)


class Lending:
    """Held files by identity. Safe from any thread."""

    def __init__(self, files: HeldFiles, registrar: Registrar) -> None:
        self._files = files
        self._registrar = registrar

    def source(self, identity: FileIdentity) -> torch.Tensor | None:
        """All bytes of a held file, never to be written; registered for as long as nobody releases it."""
        held = self._files.whole(identity)
        return None if held is None else held.memory.all_bytes()

    def pieces(self, span: Span) -> tuple[torch.Tensor, ...] | None:
        """The bytes of a span, if they are held, in pieces that each lie in one registration; see `source`."""
        held = self._files.begun(span.identity)
        if held is None or not held.memory.has(self._registrar.pieces(span.offset, span.length)):
            return None
        return held.memory.cutter()(span.offset, span.length)

    def has(self, identity: FileIdentity, parts: Iterable[Span]) -> bool:
        """Whether all of these parts of a file are held: `pieces` has an answer for each."""
        return all(map(self.having(identity), parts))

    def having(self, identity: FileIdentity) -> Callable[[Span], bool]:
        """`has`, for many parts in a row."""
        held = self._files.begun(identity)
        return (lambda _: False) if held is None else self._having(held)

    @contextlib.contextmanager
    def lend(self, items: Sequence[Item], first: int = 0) -> Iterator[Straight]:
        """What of a load can go straight: what is held. Nothing of those files is released.

        `first`: the number of the first of these items.
        """
        by_file: dict[FileIdentity, list[tuple[int, Span]]] = {}
        for number, item in enumerate(items, first):
            if isinstance(span := item.source, Span):
                by_file.setdefault(span.identity, []).append((number, span))
        taken = self._files.borrow(by_file)
        straight = Straight()
        try:
            for identity, (held, _) in taken.items():
                straight |= self._straight(held, by_file[identity])
            yield straight
        finally:
            straight.clear()
            self._files.give_back(taken)

    def _straight(
        self, held: HeldFile, spans: Iterable[tuple[int, Span]]
    ) -> Iterator[tuple[int, tuple[_Cut, Span]]]:
        cut, has = held.memory.cutter(), self._having(held)
        return ((number, (cut, span)) for number, span in spans if has(span))

    def _having(self, held: HeldFile) -> Callable[[Span], bool]:
        memory, pieces = held.memory, self._registrar.pieces
        return (lambda _: True) if memory.whole else lambda span: memory.has(pieces(span.offset, span.length))
