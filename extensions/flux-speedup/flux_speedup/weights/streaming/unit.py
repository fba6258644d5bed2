"""A unit: the weights of one leaf module, as they are at home, and how they lie in a place of the ring."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..packed.packed_file import Packed
from ..residency.forms import KINDS, Recipe, companions_of, known, recipe_of
from ..residency.shells import parts_of, show
from .ring import ALIGN

DtypeOf = Callable[[torch.Tensor], torch.dtype]
"""The dtype that a weight at home has on the device (where it is a cast of its file)."""
SMALL = 128 << 10
"""Bytes of a cast that is kept on the device: a bias, which the host would cast once, where it stays."""
Merge = Callable[[torch.Tensor], torch.Tensor]
"""The weight with a LoRA in it, from the weight on the device, in new memory."""


@dataclass(eq=False)
class Slot:
    """One tensor of a unit: `home` is the data it has between passes, `dtype` what it has on the device.

    `name`: of a parameter, or of a companion of one, as `named_tensors` has it. `recipe`: what is made of it.
    """

    name: str
    parameter: torch.Tensor
    home: torch.Tensor
    dtype: torch.dtype
    address: int  # of its home
    recipe: Recipe | None = None
    start: int = 0  # in the place
    raw: int | None = None  # in the place: where its bytes go before they are cast, or made something of
    shown: int | None = None  # address of the data it has while its module runs; 0 where that has no bytes
    cast: torch.nn.Parameter | None = None  # what the host has put in its place
    cast_with: Mapping[str, Merge] | None = None  # the unit's merges then

    @property
    def shape(self) -> tuple[int, ...]:
        """On the device."""
        return tuple(self.home.shape) if self.recipe is None else self.recipe.shape

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def show(self, data: torch.Tensor) -> None:
        """The tensor has this data while its module runs."""
        show(self.parameter, data)
        self.shown = data.data_ptr()
        if self.recipe is not None:
            self.recipe.arrived(self.parameter)

    def hide(self) -> None:
        """The tensor is as it is at home, unless its module gave it another memory while it ran."""
        if self.shown is not None and self.parameter.data_ptr() == self.shown:
            show(self.parameter, self.home)
            if self.recipe is not None:
                self.recipe.left(self.parameter)
        self.shown = None


@dataclass(eq=False)
class Unit:
    """One leaf module's weights. `bytes`: those that stay take; `place`: a place in the ring takes.

    `brought`: bytes at home. `users`: passes that are inside the module now. `seconds`: computing from its start to
    the next one's. `merges`: how parameters get their LoRA, by name. `alone`: memory beside the ring, held while it
    runs.
    """

    number: int
    name: str
    slots: tuple[Slot, ...] = ()
    bytes: int = 0
    place: int = 0
    brought: int = 0
    users: int = 0
    seconds: float = 0.0
    alone: list[torch.Tensor] = field(default_factory=list)
    merges: Mapping[str, Merge] = field(default_factory=dict)
    parameters: dict[str, torch.nn.Parameter | None] = field(default_factory=dict)
    """The module's own, by name."""
    seen: tuple[torch.nn.Parameter | None, ...] | None = None
    """The same at the last look, where they are all of its tensors."""

    def come(self, views: Sequence[torch.Tensor]) -> None:
        """The module's tensors show these while it runs. What the host cast of its own classes is there again."""
        for slot, view in zip(self.slots, views, strict=True):
            slot.show(view)
            if slot.cast is not None and slot.cast_with is self.merges:
                self.parameters[slot.name] = slot.cast

    def go_home(self) -> None:
        """The module's tensors are at home. Small ones that the host has cast meanwhile are kept."""
        for slot in self.slots:
            slot.hide()
            own: Any = slot.parameter
            now = self.parameters.get(slot.name)
            if type(own) in KINDS and now is not None and now is not own:
                self.parameters[slot.name] = own
                if now is not slot.cast:
                    slot.cast, slot.cast_with = now if now.data.nbytes <= SMALL else None, self.merges
        self.alone.clear()

    def let_go(self) -> None:
        """Nothing is kept of what the host cast."""
        for slot in self.slots:
            slot.cast = slot.cast_with = None

    def is_at_home(self, module: torch.nn.Module) -> bool:
        """Whether the module's tensors are those of the last look, at home."""
        own, seen = module._parameters, self.seen
        known = seen is not None and len(seen) == len(own) and all(map(operator.is_, seen, own.values()))
        if not known and not _same([tensor for _, tensor in named_tensors(module)], self.slots):
            return False
        for slot in self.slots:
            if slot.parameter.data_ptr() != slot.address:
                return False
        return bool(self.slots)

    def merge(self) -> None:
        """Tensors that are on the device get their LoRA."""
        for name, merge in self.merges.items():
            slot = next(slot for slot in self.slots if slot.name == name)
            merged = merge(slot.parameter)
            parts = {name: merged, **_after(name, companions_of(merged))}
            own = [each for each in self.slots if each.name in parts]
            if len(own) != len(parts):
                raise ValueError(f"{self.name}.{name} has other parts with its LoRA than without")
            for each in own:
                each.show(parts[each.name].data)
            self.alone += parts.values()

    def look(self, module: torch.nn.Module, dtype_of: DtypeOf) -> bool:
        """Take the module's tensors as they are now; False where one is not at home, or not plain bytes."""
        slots: list[Slot] = []
        for name, tensor in named_tensors(module):
            home = tensor.data
            if not known(tensor):
                return False
            if not home.is_contiguous() or home.device != torch.device("cpu"):
                return False
            recipe = recipe_of(tensor)
            dtype = dtype_of(tensor) if recipe is None else recipe.dtype
            slots.append(Slot(name, tensor, home, dtype, home.data_ptr(), recipe))
        end = 0
        # What lies side by side there does so in a place.
        for slot in sorted(slots, key=lambda each: each.address):
            if slot.recipe is not None or slot.dtype != slot.home.dtype:
                slot.raw = end
                end += _aligned(slot.home.nbytes)
            slot.start = end
            end += _aligned(slot.bytes)
        self.slots, self.place, self.parameters = tuple(slots), end, module._parameters
        self.bytes = sum(slot.bytes for slot in slots)
        self.brought = sum(slot.home.nbytes for slot in slots)
        own = tuple(module._parameters.values())
        self.seen = own if _same([one for one in own if one is not None], slots) else None
        return bool(slots)


def named_tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """A module's own parameters, each followed by what goes with it, which has a name after it; of shells the
    parts."""
    for name, parameter in module._parameters.items():
        if parameter is not None:
            parts = parts_of(parameter)
            if not parts:
                yield name, parameter
            yield from _after(name, parts or companions_of(parameter)).items()


def _same(tensors: Sequence[torch.Tensor], slots: Sequence[Slot]) -> bool:
    """Whether the slots are of these tensors."""
    return len(tensors) == len(slots) and all(
        slot.parameter is one for slot, one in zip(slots, tensors, strict=True)
    )


def _after(name: str, others: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{own} of {name}": other for own, other in others.items()}


Pieces = Callable[[Slot], Sequence[torch.Tensor]]
"""A slot's bytes at home, one after the other, as the supply copies them (uint8, one dimension)."""


class InPackedForm(tuple[torch.Tensor, ...]):
    """Pieces that go to the end of a slot's memory, and are decoded there. `straight`: the device reads them."""

    packed: Packed
    straight: bool


def home_bytes(slot: Slot) -> Sequence[torch.Tensor]:
    """A slot's bytes where they are, in one piece."""
    return (slot.home.reshape(-1).view(torch.uint8),)


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN
