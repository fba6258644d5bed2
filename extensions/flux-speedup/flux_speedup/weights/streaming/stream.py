"""Applies streaming to the units of one model: what is needed next is on its way while others compute.

The weights are at home except while their module runs. Whatever goes wrong in here leaves them at home, where
the host moves them by itself.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from .hooks import Hooks
from .order import Cursor, Learner
from .ring import Place, Ring
from .supply import Load, Supply
from .timeline import Timeline
from .two_kinds import TwoKinds
from .unit import DtypeOf, Slot, Unit

_log = logging.getLogger("flux_speedup")
Pieces = Callable[[Slot], Sequence[torch.Tensor]]
"""A slot's bytes at home, one after the other, as the supply copies them (uint8, one dimension)."""


@dataclass
class Figures:
    """Counted since the stream began: bytes and units brought; those that nobody had expected in time."""

    bytes: int = 0
    units: int = 0
    unexpected: int = 0
    rounds: int = 0


class Stream:
    """The units of one model that do not stay, and their ring. Passes may come from any thread."""

    def __init__(
        self,
        units: Mapping[torch.nn.Module, Unit],
        timeline: Timeline,
        supply: Supply,
        ring: int,
        *,
        dtype_of: DtypeOf = lambda tensor: tensor.dtype,
        pieces: Pieces | None = None,
    ) -> None:
        """`units`: all that may stream, by module, in the order to begin with. `ring`: bytes.

        The ring takes device memory from the first call of a unit on, until `rest`.
        """
        self.figures = Figures()
        self._units = {unit.number: unit for unit in units.values()}
        self._timeline = timeline
        self._supply = supply
        self._dtype_of = dtype_of
        self._pieces = pieces or home_bytes
        self._size = ring
        self._ring = Ring(ring)
        self._memory: TwoKinds | None = None
        self._in_use: dict[int, Place] = {}
        self._order = tuple(unit.number for unit in units.values())
        self._learner = Learner(4 * len(self._order))
        self._cursor = Cursor(())
        self._lock = threading.RLock()
        self._said = False
        self._closed = False
        self._hooks = Hooks(self._before, self._after)

    @property
    def ring(self) -> int:
        """Bytes of the ring."""
        return self._size

    @property
    def held(self) -> int:
        """Bytes of the ring that take device memory now."""
        return 0 if self._memory is None else self._size

    @property
    def source(self) -> str:
        """Where the bytes come from, in words."""
        return self._supply.name

    @property
    def streamed(self) -> frozenset[int]:
        """Numbers of the units that are streamed now."""
        return self._hooks.numbers

    def set_streamed(self, modules: Mapping[torch.nn.Module, Unit]) -> None:
        """From here on exactly these are streamed; each is at home. Not while a pass is under way."""
        with self._lock:
            wanted = {unit.number for unit in modules.values()}
            for number in self.streamed - wanted:
                self._hooks.remove(number)
                self._ring.forget(number)
            for module, unit in modules.items():
                if unit.number in self.streamed:
                    continue
                if unit.look(module, self._dtype_of):
                    self._hooks.add(module, unit)
            self._follow(self._in_order())

    def forget(self, numbers: Sequence[int]) -> None:
        """What is on its way for these is not what they need any more: their source or dtype changed."""
        with self._lock:
            for number in numbers:
                self._ring.forget(number)
            self._follow(self._cursor.order)

    def order(self) -> tuple[int, ...]:
        """All units in the order in which they run, as far as that is known."""
        return self._order

    def set_supply(self, supply: Supply) -> None:
        """Bytes come in another way from now on; what was brought is there."""
        with self._lock:
            if not self._closed:
                self._supply.close()
                self._supply = supply

    def set_order(self, order: Sequence[int]) -> None:
        """All units ran in this order."""
        with self._lock:
            self._order = tuple(order)
            self._follow(self._in_order())

    def rest(self) -> None:
        """Nobody runs the model for a while: the ring's memory is free for others until its next call."""
        with self._lock:
            if self._memory is None or self._in_use:
                return
            self._supply.rest()
            # Whoever gets the memory comes after the copies that may still go there.
            self._timeline.computing_waits(self._timeline.copied())
            self._memory = None
            self._ring = Ring(self._size)
            self._cursor.restart(self._cursor.order)

    def close(self) -> None:
        """Every weight is at home, no hook is left, and no copy is under way."""
        with self._lock:
            self._closed = True
            self._hooks.remove_all()
            for number in list(self._in_use):
                self._go_home(self._units[number])
            self._supply.close()
            self._ring = Ring(0)
            self._memory = None

    # A module is about to run, and has run.

    def _before(self, unit: Unit, module: torch.nn.Module) -> None:
        with self._lock:
            if self._closed:
                return
            if unit.users:
                unit.users += 1
                place = self._in_use.get(unit.number)
                if place is not None:
                    self._timeline.computing_waits(place.arrival())
                return
            try:
                if not self._is_at_home(unit, module):
                    return
                self._learn(unit.number)
                for number in self._cursor.ran(unit.number):
                    self._let_pass(number)
                self._enter(unit)
                self._fill()
            except Exception as error:
                self._ring.forget(unit.number)
                self._go_home(unit)
                if unit.merges:
                    raise  # the host would compute without the LoRA
                self._say(f"{unit.name} could not be streamed ({error}); the WebUI moves it by itself")

    def _after(self, unit: Unit) -> None:
        with self._lock:
            if not unit.users:
                return
            unit.users -= 1
            place = self._in_use.get(unit.number)
            if place is not None:
                place.computed.append(self._timeline.computed())
            if unit.users:
                return
            self._go_home(unit)
            if not self._closed:
                with self._quietly(unit):
                    self._fill()

    def _enter(self, unit: Unit) -> None:
        place = self._ring.find(unit.number)
        if place is None:
            self.figures.unexpected += 1
            place = self._bring(unit, force=True)
        if place is None:
            views = self._bring_alone(unit)
        else:
            self._timeline.computing_waits(place.arrival())
            place.expected = False
            place.users += 1
            self._in_use[unit.number] = place
            views = place.views
        unit.users = 1
        for slot, view in zip(unit.slots, views, strict=True):
            slot.parameter.data = view
            slot.shown = view.data_ptr()
            merge = unit.merges.get(slot.name)
            if merge is not None:
                merged = merge(slot.parameter)
                unit.alone.append(merged)
                slot.parameter.data = merged
                slot.shown = merged.data_ptr()

    def _go_home(self, unit: Unit) -> None:
        unit.users = 0
        for slot in unit.slots:
            # What its module gave another memory while it ran is the host's.
            if slot.shown and slot.parameter.data_ptr() == slot.shown:
                slot.parameter.data = slot.home
            slot.shown = 0
        unit.alone.clear()
        place = self._in_use.pop(unit.number, None)
        if place is not None:
            place.computed.append(self._timeline.computed())
            place.users -= 1

    # What is on its way.

    def _fill(self) -> None:
        """Bring what comes next, as far as the ring has room."""
        while (number := self._cursor.upcoming()) is not None:
            place = self._ring.find(number)
            if place is not None:
                place.expected = True  # still there from the last time, or asked for twice
            elif self._bring(self._units[number]) is None:
                return
            self._cursor.brought()

    def _bring(self, unit: Unit, *, force: bool = False) -> Place | None:
        """A place of the ring for a unit, its bytes on their way. `force`: what others expect gives way."""
        found = self._ring.place(unit.number, unit.place)
        expected = self._ring.expected() if force and found is None else []
        for place in expected:
            place.expected = False
            found = self._ring.place(unit.number, unit.place)
            if found is not None:
                break
        if expected:
            self._cursor.restart(self._cursor.order, unit.number)
            for place in self._ring.expected():
                place.expected = found is not None and place is found[0]
        if found is None:
            return None
        place, marks = found
        try:
            load, views = self._load_into(unit, place)
            place.arrival = self._supply.bring(load, marks)
        except BaseException:
            self._ring.hand_back(unit.number, marks)
            raise
        place.views = views
        self.figures.bytes += sum(slot.home.nbytes for slot in unit.slots)
        self.figures.units += 1
        return place

    def _load_into(self, unit: Unit, place: Place) -> tuple[Load, list[torch.Tensor]]:
        copies: list[tuple[torch.Tensor, torch.Tensor]] = []
        casts: list[tuple[torch.Tensor, torch.Tensor]] = []
        views: list[torch.Tensor] = []
        if self._memory is None:
            self._memory = TwoKinds(self._timeline.memory(self._size))
        for slot in unit.slots:
            memory = self._memory.like(slot.parameter)
            with torch.inference_mode(slot.parameter.is_inference()), torch.no_grad():
                start = place.start + slot.start
                view = memory[start : start + slot.bytes].view(slot.dtype).view(slot.home.shape)
                at = first = start if slot.raw is None else place.start + slot.raw
                for piece in self._pieces(slot):
                    copies.append((memory[at : at + piece.numel()], piece))
                    at += piece.numel()
                if slot.raw is not None:
                    raw = memory[first:at].view(slot.home.dtype).view(slot.home.shape)
                    casts.append((view, raw))
                views.append(view)
        return Load(copies, casts), views

    def _bring_alone(self, unit: Unit) -> list[torch.Tensor]:
        """Beside the ring, which has no room: in memory of its own, on the stream that computes."""
        views: list[torch.Tensor] = []
        for slot in unit.slots:
            memory = TwoKinds(self._timeline.memory(slot.bytes)).like(slot.parameter)
            with torch.inference_mode(slot.parameter.is_inference()), torch.no_grad():
                views.append(memory.view(slot.dtype).view(slot.home.shape).copy_(slot.home))
        unit.alone += views
        return views

    def _let_pass(self, number: int) -> None:
        place = self._ring.find(number)
        if place is not None:
            place.expected = False

    # Order, and parameters that somebody changed.

    def _learn(self, number: int) -> None:
        ended = self._learner.note(number)
        if ended is None:
            return
        self.figures.rounds += 1
        if ended != self._cursor.order and self.streamed.issuperset(ended):
            self._follow(ended)

    def _in_order(self) -> tuple[int, ...]:
        streamed = self.streamed
        return tuple(number for number in self._order if number in streamed)

    def _follow(self, order: Sequence[int]) -> None:
        for place in self._ring.expected():
            place.expected = False
        self._cursor.restart(order)

    def _is_at_home(self, unit: Unit, module: torch.nn.Module) -> bool:
        """Whether the unit can be streamed; what was replaced since the last look is seen anew."""
        parameters = module._parameters
        present = sum(parameter is not None for parameter in parameters.values())
        if present == len(unit.slots) and all(slot.is_at(parameters.get(slot.name)) for slot in unit.slots):
            return True
        self._ring.forget(unit.number)
        size = unit.place
        if unit.look(module, self._dtype_of):
            return True
        unit.place = size
        unit.slots = ()
        return False

    @contextlib.contextmanager
    def _quietly(self, unit: Unit) -> Iterator[None]:
        """Bringing what comes next failed: it is brought when it is needed, and its error comes then."""
        try:
            yield
        except Exception as error:
            self._say(f"what follows {unit.name} could not be brought ahead ({error})")

    def _say(self, sentence: str) -> None:
        if not self._said:
            self._said = True
            _log.warning("streaming: %s", sentence)


def home_bytes(slot: Slot) -> Sequence[torch.Tensor]:
    """A slot's bytes where they are, in one piece."""
    return (slot.home.reshape(-1).view(torch.uint8),)
