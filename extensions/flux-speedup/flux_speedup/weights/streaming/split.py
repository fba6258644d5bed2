"""One model in two: units that stay on the device, and units that come through the ring when they run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from ..named import named_modules
from .clock import Clock, Timed
from .giving_way import fitting, leaving
from .spread import Cost
from .stream import Stream
from .timeline import Timeline
from .unit import Merge, Unit

LEAST = 1 << 20
"""Bytes of a unit that is worth streaming; smaller ones always stay."""


Arrive = Callable[[Sequence[tuple[torch.Tensor, torch.Tensor]]], None]
"""Takes parameters with the memory on the device to which their bytes have come."""


@dataclass(frozen=True)
class Owner:
    """What moves weights to stay and lets them go, and is told of it; names are the model's.

    `load`, `unload`: raise WeightsError, and then nothing has moved. `expect`: these will be brought by others;
    answers with what is told of each as it arrives. `merge`: weights that have just come to stay get their LoRA.
    `at_home`: a module's weights are not on the device from now on (or are again).
    """

    load: Callable[[Collection[str]], object]
    unload: Callable[[Collection[str]], object]
    expect: Callable[[Collection[str]], Arrive]
    merge: Callable[[Mapping[str, Merge]], None]
    at_home: Callable[[torch.nn.Module, bool], None]


class Split:
    """Which units of one model stay. Not thread safe: the host moves models one at a time."""

    def __init__(
        self,
        units: Mapping[torch.nn.Module, Unit],
        stream: Stream,
        owner: Owner,
        staying: Collection[int] = (),
    ) -> None:
        """`staying`: numbers of units that are on the device already; the others are at home, and stream."""
        self.stream = stream
        self._units = dict(units)
        self._modules = {unit.number: module for module, unit in units.items()}
        self._by_number = {unit.number: unit for unit in units.values()}
        self._owner = owner
        self._staying = frozenset(staying)
        self.merges: Mapping[str, Merge] = {}

    @property
    def modules(self) -> tuple[torch.nn.Module, ...]:
        """Those that stream now."""
        return tuple(module for module, unit in self._units.items() if unit.number not in self._staying)

    @property
    def staying(self) -> int:
        """Bytes of the units that stay."""
        return sum(self._by_number[number].bytes for number in self._staying)

    @property
    def whole(self) -> int:
        """Bytes of all units."""
        return sum(unit.bytes for unit in self._by_number.values())

    @property
    def streaming(self) -> int:
        """Bytes of the units that stream."""
        return self.whole - self.staying

    @property
    def streamed_names(self) -> frozenset[str]:
        """Names of the weights that stream."""
        return frozenset(self._names(set(self._by_number) - self._staying))

    @property
    def coming(self) -> int:
        """Bytes of those that will stay once they have arrived; they count as streaming until then."""
        return sum(self._by_number[number].bytes for number in self.stream.coming)

    def fit(self, budget: int, *, later: bool = False) -> None:
        """Units that stay take at most `budget` bytes from now on. Raises WeightsError: some did not come then.

        `later`: those that come do so while the model runs next, as they would if they streamed. (Those with a
        LoRA come at once.)
        """
        order, costs = self._costs()
        place = {number: at for at, number in enumerate(order)}
        shift = fitting(costs, {place[number] for number in self._staying}, budget)
        self._let_go([order[at] for at in shift.leave])
        come = [order[at] for at in shift.come]
        wait = {number for number in come if later and not self._by_number[number].merges}
        self._bring_back([number for number in come if number not in wait])
        if wait:
            self._let_come(wait)
        else:
            self.stop_coming()

    def give_way(self, size: int) -> int:
        """Let units go that have `size` bytes together, or all; returns how many bytes went."""
        order, costs = self._costs()
        place = {number: at for at, number in enumerate(order)}
        self.stop_coming()
        gone = leaving(costs, {place[number] for number in self._staying}, size)
        self._let_go([order[at] for at in gone])
        return sum(costs[at].bytes for at in gone)

    def stop_coming(self) -> None:
        """What was to come to stay, and is not there yet, streams on."""
        self.stream.come(())

    def set_merges(self, merges: Mapping[str, Merge]) -> None:
        """How weights get their LoRA, by name: those that stream have it from now on, as they arrive.

        Those that stay are merged by whoever calls this, now; by us whenever they come back.
        """
        self.merges = merges
        for number, unit in self._by_number.items():
            own = {name.rpartition(".")[2]: merges[name] for name in self._names([number]) if name in merges}
            if own or unit.merges:
                unit.merges = own  # another object: what was made with others does not count any more
        self.stream.trim(self._by_number.keys())

    def measured(self, timed: Timed) -> None:
        """A round was timed: from now on the order is known, and units are spread by computing."""
        for number, seconds in timed.seconds.items():
            self._by_number[number].seconds = seconds
        rest = [number for number in self.stream.order() if number not in timed.seconds]
        self.stream.set_order([*timed.order, *rest])

    def clock(self, timeline: Timeline) -> Clock:
        """What times a round of all units."""
        return Clock(self._units, timeline)

    def close(self) -> None:
        """Nothing streams any longer: what stays, stays, and the rest is at home, the host's to move."""
        self.stream.close()

    def _costs(self) -> tuple[Sequence[int], list[Cost]]:
        order = self.stream.order()
        units = [self._by_number[number] for number in order]
        return order, [Cost(unit.bytes, unit.seconds) for unit in units]

    def _let_go(self, numbers: Sequence[int]) -> None:
        if numbers:
            self._owner.unload(self._names(numbers))
            self._staying -= set(numbers)
        self._apply()

    def _let_come(self, numbers: Collection[int]) -> None:
        arrive = self._owner.expect(self._names(numbers))

        def arrived(unit: Unit, views: Sequence[torch.Tensor]) -> None:
            try:
                arrive([(slot.parameter, view) for slot, view in zip(unit.slots, views, strict=True)])
            except BaseException:
                self._owner.unload(self._names([unit.number]))
                raise
            self._staying |= {unit.number}
            self._owner.at_home(self._modules[unit.number], False)

        self.stream.come(numbers, arrived)

    def _bring_back(self, numbers: Sequence[int]) -> None:
        if not numbers:
            return
        self._staying |= set(numbers)
        self._apply()
        names = self._names(numbers)
        try:
            self._owner.load(names)
            merges = {name: self.merges[name] for name in names if name in self.merges}
            if merges:
                self._owner.merge(merges)
        except BaseException:
            self._owner.unload(names)
            self._staying -= set(numbers)
            self._apply()
            raise

    def _apply(self) -> None:
        streamed = {module: unit for module, unit in self._units.items() if unit.number not in self._staying}
        for module, unit in self._units.items():
            self._owner.at_home(module, unit.number not in self._staying)
        self.stream.set_streamed(streamed)

    def _names(self, numbers: Iterable[int]) -> list[str]:
        found: list[str] = []
        for number in numbers:
            unit, module = self._by_number[number], self._modules[number]
            found += [f"{unit.name}.{name}" for name, one in module._parameters.items() if one is not None]
        return found


def units_of(
    model: torch.nn.Module, may: Callable[[torch.nn.Module], bool], bytes_of: Callable[[torch.Tensor], int]
) -> dict[torch.nn.Module, Unit]:
    """Modules of a model whose own weights may stream, in its order; those too small to be worth it left out.

    A weight that has several owners streams with none of them.
    """
    owners: dict[int, int] = {}
    named = [(name, module) for name, module in named_modules(model) if module._parameters]
    for _, module in named:
        for parameter in module._parameters.values():
            if parameter is not None:
                owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    units: dict[torch.nn.Module, Unit] = {}
    for name, module in named:
        own = [parameter for parameter in module._parameters.values() if parameter is not None]
        if not own or not may(module) or any(owners[id(one)] > 1 for one in own):
            continue
        size = sum(bytes_of(parameter) for parameter in own)
        if size >= LEAST:
            units[module] = Unit(len(units), name, bytes=size)
    return units
