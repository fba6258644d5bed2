"""What one unit's load consists of, and what its parameters show once that has arrived."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from ..residency.forms import Recipe
from .kept import Copy
from .supply import Load
from .two_kinds import TwoKinds
from .unit import InPackedForm, Pieces, Slot, Unit, home_bytes

Pairs = list[tuple[torch.Tensor, torch.Tensor]]
"""Targets with their sources."""


def load_into(
    unit: Unit, ring: TwoKinds, start: int, pieces: Pieces, copy: Copy | None
) -> tuple[Load, list[torch.Tensor]]:
    """Into a place of the ring, which begins at byte `start`. `copy`: in place of what is at home."""
    copies: Pairs = []
    casts: Pairs = []
    made: list[Callable[[], object]] = []
    views: list[torch.Tensor] = []
    for number, slot in enumerate(unit.slots):
        memory = ring.like(slot.parameter)
        with torch.inference_mode(slot.parameter.is_inference()), torch.no_grad():
            begin = start + slot.start
            view = memory[begin : begin + slot.bytes].view(slot.dtype).view(slot.shape)
            views.append(view)
            if copy is not None:
                copies.append((memory[begin : begin + slot.bytes], copy.bytes[number]))
                continue
            at = first = begin if slot.raw is None else start + slot.raw
            found = pieces(slot)
            at += _begin(found, memory[begin : begin + slot.bytes], slot, made)
            for piece in found:
                copies.append((memory[at : at + piece.numel()], piece))
                at += piece.numel()
            if slot.raw is not None:
                raw = memory[first:at].view(slot.home.dtype).view(slot.home.shape)
                if slot.recipe is None:
                    casts.append((view, raw))
                else:
                    made.append(partial(_make, slot.recipe, view, raw))
    return Load(copies, casts, made), views


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
        with torch.inference_mode(slot.parameter.is_inference()), torch.no_grad():
            views.append(kind.view(slot.home.dtype).view(slot.home.shape))
    return Load(copies, made=made), views


def brought_alone(unit: Unit, memory: Callable[[int], torch.Tensor]) -> list[torch.Tensor]:
    """Into new memory, copied on the current stream, and as the unit computes with it."""
    views: list[torch.Tensor] = []
    for slot in unit.slots:
        size, dtype = (slot.bytes, slot.dtype) if slot.recipe is None else (slot.home.nbytes, slot.home.dtype)
        kind = TwoKinds(memory(size)).like(slot.parameter)
        with torch.inference_mode(slot.parameter.is_inference()), torch.no_grad():
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
    return memory.numel() - pieces.packed.entry.form.length


def _make(recipe: Recipe, target: torch.Tensor, raw: torch.Tensor) -> None:
    target.copy_(recipe.make(raw))
