"""What one unit's load consists of, and what its parameters show once that has arrived."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple

import torch

from ..inference import made_in_inference
from ..residency.forms import Recipe
from .kept import Copy
from .supply import Load
from .two_kinds import TwoKinds
from .unit import InPackedForm, Pieces, Slot, Unit, home_bytes

Pairs = list[tuple[torch.Tensor, torch.Tensor]]
"""Targets with their sources."""
_MOST = 4096
"""Loads that are kept: a few for each unit."""


class _Known(NamedTuple):
    """A load as it was made, and what it was made of."""

    slots: Sequence[Slot]
    pieces: Sequence[Sequence[torch.Tensor]]
    load: Load
    views: list[torch.Tensor]


class Loads:
    """Into places of one ring's memory. A unit comes to the same few places again and again: its loads are kept."""

    def __init__(self, memory: torch.Tensor, pieces: Pieces) -> None:
        """`memory`: the ring's bytes."""
        self._memory = TwoKinds(memory)
        self._pieces = pieces
        self._known: dict[tuple[int, int], _Known] = {}

    def into(self, unit: Unit, start: int, copy: Copy | None) -> tuple[Load, list[torch.Tensor]]:
        """Into a place that begins at byte `start`, and what its slots show then. `copy`: in place of what is at
        home.
        """
        slots = unit.slots
        found = copy.pieces if copy is not None else [self._pieces(slot) for slot in slots]
        known = self._known.get((unit.number, start))
        if known is not None and known.slots is slots and all(map(operator.is_, known.pieces, found)):
            return known.load, known.views
        load, views = self._made(slots, start, found, as_computed=copy is not None)
        if not any(isinstance(each, InPackedForm) for each in found):
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[unit.number, start] = _Known(slots, found, load, views)
        return load, views

    def forget(self, numbers: Collection[int]) -> None:
        """What loads of these units were made of may go."""
        self._known = {key: one for key, one in self._known.items() if key[0] not in numbers}

    def _made(
        self,
        slots: Sequence[Slot],
        start: int,
        pieces: Sequence[Sequence[torch.Tensor]],
        *,
        as_computed: bool,
    ) -> tuple[Load, list[torch.Tensor]]:
        copies: Pairs = []
        elsewhere: Pairs = []  # from what is not the weight's home, which the host may have pinned by itself
        casts: Pairs = []
        made: list[Callable[[], object]] = []
        views: list[torch.Tensor] = []
        for slot, found in zip(slots, pieces, strict=True):
            memory = self._memory.like(slot.parameter)
            with torch.inference_mode(made_in_inference(slot.parameter)), torch.no_grad():
                begin = start + slot.start
                own = memory[begin : begin + slot.bytes]
                view = own.view(slot.dtype).view(slot.shape)
                views.append(view)
                raw = None if as_computed else slot.raw
                at = first = begin if raw is None else start + raw
                at += _begin(found, own, slot, made)
                for piece in found:
                    pairs = copies if piece.data_ptr() == slot.address else elsewhere
                    pairs.append((memory[at : at + piece.numel()], piece))
                    at += piece.numel()
                if raw is None:
                    continue
                brought = memory[first:at].view(slot.home.dtype).view(slot.home.shape)
                if slot.recipe is None:
                    casts.append((view, brought))
                else:
                    made.append(partial(_make, slot.recipe, view, brought))
        return Load([*copies, *_joined(elsewhere)], casts, made), views


def load_of_own(
    unit: Unit, memories: Sequence[torch.Tensor], pieces: Pieces
) -> tuple[Load, list[torch.Tensor]]:
    """Into memory of its own (bytes), as it is at home."""
    copies: Pairs = []
    made: list[Callable[[], object]] = []
    views: list[torch.Tensor] = []
    for slot, memory in zip(unit.slots, memories, strict=True):
        found = pieces(slot)
        at = _begin(found, memory, slot, made)
        for piece in found:
            copies.append((memory[at : at + piece.numel()], piece))
            at += piece.numel()
        kind = TwoKinds(memory).like(slot.parameter)
        with torch.inference_mode(made_in_inference(slot.parameter)), torch.no_grad():
            views.append(kind.view(slot.home.dtype).view(slot.home.shape))
    return Load(copies, made=made), views


def brought_alone(unit: Unit, memory: Callable[[int], torch.Tensor]) -> list[torch.Tensor]:
    """Into new memory, copied on the current stream, and as the unit computes with it."""
    views: list[torch.Tensor] = []
    for slot in unit.slots:
        size, dtype = (slot.bytes, slot.dtype) if slot.recipe is None else (slot.home.nbytes, slot.home.dtype)
        kind = TwoKinds(memory(size)).like(slot.parameter)
        with torch.inference_mode(made_in_inference(slot.parameter)), torch.no_grad():
            view = kind.view(dtype).view(slot.home.shape).copy_(slot.home)
            views.append(view if slot.recipe is None else slot.recipe.make(view))
    return views


def _begin(
    pieces: Sequence[torch.Tensor], memory: torch.Tensor, slot: Slot, made: list[Callable[[], object]]
) -> int:
    """Where in its memory a slot's pieces go. In packed form: to the end, and they are decoded there."""
    if not isinstance(pieces, InPackedForm):
        return 0
    if not pieces.packed.is_there:
        made.append(partial(pieces.packed.unpack_now, memory, home_bytes(slot)[0]))
    return memory.numel() - pieces.packed.form.length


def _joined(copies: Pairs) -> Pairs:
    """The same bytes in as few copies as they can be: of what lies side by side in one memory, here and there."""
    found: Pairs = []
    for pair in sorted(copies, key=lambda each: each[0].data_ptr()):
        before = found[-1] if found else pair
        if all(_follows(one, other) for one, other in zip(before, pair, strict=True)):
            size = before[0].numel() + pair[0].numel()
            found[-1] = before[0].as_strided((size,), (1,)), before[1].as_strided((size,), (1,))
        else:
            found.append(pair)
    return found


def _follows(one: torch.Tensor, other: torch.Tensor) -> bool:
    memories = one.untyped_storage().data_ptr(), other.untyped_storage().data_ptr()
    return memories[0] == memories[1] and one.data_ptr() + one.numel() == other.data_ptr()


def _make(recipe: Recipe, target: torch.Tensor, raw: torch.Tensor) -> None:
    target.copy_(recipe.make(raw))
