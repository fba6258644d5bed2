"""Weights in new memory of a device: those that came before they were asked for, those brought now, those made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Protocol

import torch

from ..transfer.item import Item
from ..transfer.lane import Lane
from ..transfer.run import Arrived
from .early import Early, Landed, Starter, items_of, nothing_placed
from .going import Departure
from .signature import Signature
from .state import OnDevice

More = Callable[[], list[Departure]]
"""Asked again and again, until there are none."""


class Runner(Protocol):
    """What runs a transfer: `transfer` with an arena, or a stand-in."""

    def __call__(
        self,
        items: Sequence[Item],
        lane: Lane,
        *,
        arrived: Arrived | None,
        more: Callable[[], Sequence[Item]],
    ) -> list[torch.Tensor]: ...


class Landing:
    """Of one model; one call at a time, but for `coming`."""

    def __init__(
        self,
        lanes: Callable[[torch.device], Lane],
        run: Runner,
        start: Starter,
        signed: Callable[..., Signature],
    ) -> None:
        """`start`: a transfer that goes on by itself. `signed`: makes signatures."""
        self._lanes = lanes
        self._run = run
        self._start = start
        self._signed = signed
        self._early: Early | None = None

    def early(self, going: Sequence[Departure], device: torch.device) -> Early:
        """What of these is in files, to come before it is asked for. Raises TransferError."""
        early = Early(items_of(going), self._lanes(device).beside(), self._start, self._signed)
        self.take(early)
        return early

    def take(self, early: Early) -> None:
        """That is what comes before it is asked for, in the place of anything else."""
        self.stop()
        self._early = early

    def stop(self) -> None:
        """What is on its way and was not asked for goes."""
        early, self._early = self._early, None
        if early is not None:
            early.stop()

    def all(
        self, going: Sequence[Departure], device: torch.device, more: More
    ) -> tuple[list[tuple[Departure, Landed]], int]:
        """Every one on the device, of so many bytes that came early; or none. Raises TransferError.

        `more`: finds the next of what goes, while these are on their way.
        """
        early = self._early
        there: dict[int, Landed] = {}
        if early is not None and early.may_land(device):
            # All is looked at before anybody waits for what is on its way.
            going, more = [*going, *chain.from_iterable(iter(more, []))], list
        if early is not None and early.claim(device):
            there = early.landed(going)
        self._early = None
        if not going:
            return [], 0
        came = sum(data.nbytes for data, _ in there.values())
        landed = [(each, there[id(each.tensor)]) for each in going if id(each.tensor) in there]
        rest = [each for each in going if id(each.tensor) not in there]
        try:
            landed += self._brought(rest, device, more) if rest else []
        except BaseException:
            there.clear()  # a traceback must not keep the new memory alive
            landed.clear()
            raise
        return landed, came

    def signature(self, going: Sequence[Departure], device: torch.device) -> Signature:
        """For what goes. Raises TransferError."""
        try:
            sizes, keys = [each.bytes for each in going], [each.key for each in going]
            return self._signed(sizes, device, keys=keys)
        except RuntimeError as error:
            raise nothing_placed(device, error) from error

    def _brought(
        self, first: list[Departure], device: torch.device, more: More
    ) -> list[tuple[Departure, Landed]]:
        lane = self._lanes(device)
        going: list[Departure] = []
        signed: list[tuple[Signature, int]] = []
        states: dict[int, OnDevice] = {}

        def items_for(found: Sequence[Departure]) -> list[Item]:
            if found:
                # Before the weights: what dropping them safely takes must not be what is missing then.
                signature = self.signature(found, device)
                signed.extend((signature, number) for number in range(len(found)))
            going.extend(found)
            return [departure.item for departure in found]

        def arrived(number: int, tensor: torch.Tensor) -> None:
            if going[number].recipe is None:
                signature, own = signed[number]
                signature.add(own, tensor)
                states[number] = going[number].landed(tensor, signature, own)  # while others are on their way

        new = self._run(items_for(first), lane, arrived=arrived, more=lambda: items_for(more()))
        try:
            for number, departure in enumerate(going):  # in the place of bytes that have arrived
                if departure.recipe is not None:
                    new[number] = departure.made(new[number])
                if number not in states:
                    signature, own = signed[number]
                    signature.add(own, new[number])
                    states[number] = departure.landed(new[number], signature, own)
        except Exception as error:  # what makes is the host's
            new.clear()
            raise nothing_placed(device, error) from error
        return [(departure, (new[n], states[n])) for n, departure in enumerate(going)]
