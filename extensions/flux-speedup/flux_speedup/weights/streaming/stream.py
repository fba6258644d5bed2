"""Applies streaming to the units of one model: what is needed next is on its way while others compute.

The weights are at home except while their module runs. Whatever goes wrong in here leaves them at home, where
the host moves them by itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence

import torch

from .bringing import Bringing, Figures
from .hooks import Hooks
from .in_use import InUse
from .kept import Kept
from .order import Learner, is_same_round
from .supply import Supply
from .timeline import Timeline
from .unit import DtypeOf, Pieces, Unit, home_bytes

_log = logging.getLogger("flux_speedup")
Arrived = Callable[[Unit, Sequence[torch.Tensor]], None]
"""Gets a unit that has come to stay, and for each slot the memory that its parameter is to have from now on."""


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
        pieces: Pieces = home_bytes,
        kept: Kept | None = None,
    ) -> None:
        """`units`: all that may stream, by module, in the order to begin with. `ring`: bytes.

        The ring takes device memory from the first call of a unit on, until `rest`.
        """
        self._units = {unit.number: unit for unit in units.values()}
        self._timeline = timeline
        self._dtype_of = dtype_of
        self._bringing = Bringing(self._units, timeline, supply, ring, pieces, kept)
        self._kept = kept
        self._arrived: Arrived | None = None
        self._in_use = InUse(timeline, self._bringing.alone, kept, self._say)
        self._order = tuple(unit.number for unit in units.values())
        self._learner = Learner(4 * len(self._order))
        self._lock = threading.RLock()
        self._said = False
        self._closed = False
        self._hooks = Hooks(self._before, self._after)

    @property
    def figures(self) -> Figures:
        """What was brought so far."""
        return self._bringing.figures

    @property
    def ring(self) -> int:
        """Bytes of the ring."""
        return self._bringing.size

    @property
    def held(self) -> int:
        """Bytes of the ring that take device memory now."""
        return self._bringing.held

    @property
    def source(self) -> str:
        """Where the bytes come from, in words."""
        return self._bringing.supply.name

    @property
    def streamed(self) -> frozenset[int]:
        """Numbers of the units that are streamed now."""
        return self._hooks.numbers

    @property
    def coming(self) -> frozenset[int]:
        """Those of them that will stay once they have arrived."""
        return self._bringing.coming

    def set_streamed(self, modules: Mapping[torch.nn.Module, Unit]) -> None:
        """From here on exactly these are streamed; each is at home. Not while a pass is under way."""
        with self._lock:
            wanted = {unit.number for unit in modules.values()}
            there = self.streamed
            gone = there - wanted
            for number in gone:
                self._hooks.remove(number)
            self._bringing.forget(gone)
            for module, unit in modules.items():
                if unit.number in there:
                    continue
                if unit.look(module, self._dtype_of):
                    self._hooks.add(module, unit)
            self._follow_order()

    def come(self, numbers: Collection[int], arrived: Arrived | None = None) -> None:
        """These, and no others, are streamed once more, into memory of their own, and stay there: then `arrived` is
        told. It raises where it will not have them: then they stream on.
        """
        with self._lock:
            self._arrived = arrived
            self._bringing.come(self.streamed.intersection(numbers))

    def forget(self, numbers: Sequence[int]) -> None:
        """What is on its way for these is not what they need any more: their source or dtype changed."""
        with self._lock:
            self._bringing.forget(numbers)
            if self._kept is not None:
                self._kept.forget(numbers)
            self._bringing.follow(self._bringing.cursor.order)

    def trim(self, numbers: Collection[int]) -> None:
        """Copies are kept in RAM of these units alone, and of those only that need it. Not while one runs."""
        with self._lock:
            if self._kept is None or self._kept.is_empty or self._in_use.numbers:
                return
            self._bringing.supply.rest()
            self._timeline.drain()
            self._bringing.let_go(self._units.keys())
            self._kept.trim([self._units[number] for number in numbers])

    def order(self) -> tuple[int, ...]:
        """All units in the order in which they run, as far as that is known."""
        return self._order

    def set_supply(self, supply: Supply) -> None:
        """Bytes come in another way from now on; what was brought is there."""
        with self._lock:
            if not self._closed:
                self._bringing.supply.close()
                self._bringing.supply = supply

    def set_order(self, order: Sequence[int]) -> None:
        """All units ran in this order."""
        with self._lock:
            self._order = tuple(order)
            self._follow_order()

    def rest(self) -> None:
        """Nobody runs the model for a while: the ring's memory is free for others until its next call."""
        with self._lock:
            if not self._in_use.numbers:
                self._in_use.let_go()
                self._bringing.rest()

    def close(self) -> None:
        """Every weight is at home, no hook is left, and no copy is under way."""
        with self._lock:
            self._closed = True
            self._arrived = None
            self._hooks.remove_all()
            for number in self._in_use.numbers:
                self._in_use.end(self._units[number])
            self._in_use.let_go()
            self._bringing.close()
            if self._kept is not None:
                self._kept.close()
            for unit in self._units.values():
                unit.slots = ()  # parameters that the host has replaced since are nobody's

    # A module is about to run, and has run.

    def _before(self, unit: Unit, module: torch.nn.Module) -> None:
        with self._lock:
            if self._closed:
                return
            if unit.users:
                self._in_use.again(unit)
                return
            try:
                if not self._is_at_home(unit, module):
                    return
                self._learn(unit.number)
                self._bringing.ran(unit.number)
                if not self._stay(unit):
                    place = self._bringing.find(unit)
                    if place is None:
                        self._in_use.release()
                        place = self._bringing.bring(unit)
                    self._in_use.enter(unit, place)
            except Exception as error:
                self._bringing.forget([unit.number])
                self._in_use.end(unit)
                if unit.merges:
                    raise  # the host would compute without the LoRA
                self._say(f"{unit.name} could not be streamed ({error}); the WebUI moves it by itself")
                error.__traceback__ = None  # who keeps the error would keep all that the host computes with
            else:
                self._fill(unit)

    def _after(self, unit: Unit) -> None:
        with self._lock:
            if self._in_use.leave(unit) and not self._closed:
                self._fill(unit)

    def _stay(self, unit: Unit) -> bool:
        """Whether the unit has come to stay: it is not streamed any more."""
        own = self._bringing.own(unit)
        if own is None or self._arrived is None:
            return False
        self._timeline.computing_waits(self._timeline.computing(), own.arrival())
        self._arrived(unit, own.views)
        self._hooks.remove(unit.number)
        self._bringing.cursor.drop(unit.number)
        if not self.coming:
            self._arrived = None
        self._learner.forget()
        return True

    # Order, and parameters that somebody changed.

    def _learn(self, number: int) -> None:
        ended = self._learner.note(number)
        if ended is None:
            return
        self.figures.rounds += 1
        if not is_same_round(ended, self._bringing.cursor.order) and self.streamed.issuperset(ended):
            self._bringing.follow(ended)

    def _follow_order(self) -> None:
        streamed = self.streamed
        order = tuple(number for number in self._order if number in streamed)
        if order != self._bringing.cursor.order:
            self._learner.forget()
            self._bringing.follow(order)

    def _is_at_home(self, unit: Unit, module: torch.nn.Module) -> bool:
        """Whether the unit can be streamed; what was replaced since the last look is seen anew."""
        if unit.is_at_home(module):
            return True
        self._bringing.forget([unit.number])
        size = unit.place
        if unit.look(module, self._dtype_of):
            return True
        unit.place = size
        unit.slots = ()
        return False

    def _fill(self, unit: Unit) -> None:
        """Bring what comes next. Where that fails it is brought when it is needed, and its error comes then."""
        if not self._bringing.is_time(self._in_use.over):
            return
        try:
            self._in_use.release()
            self._bringing.fill()
        except Exception as error:
            self._say(f"what follows {unit.name} could not be brought ahead ({error})")

    def _say(self, sentence: str) -> None:
        if not self._said:
            self._said = True
            _log.warning("streaming: %s", sentence)
