"""Weights in new memory of a device: those that came before they were asked for, those brought now, those made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from ..errors import TransferError, let_go
from ..transfer.item import Item
from ..transfer.lane import Lane
from ..transfer.run import Arrived
from .early import Early, Landed, Starter
from .going import Departure
from .signature import Signature
from .state import OnDevice

More = Callable[[], Sequence[Departure]]


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
        self._signed = signed
        self._early = Early(start, signed)

    def begin(self, going: Sequence[Departure], device: torch.device) -> int:
        """What is in files starts on its way; bytes that it takes from now on. Raises TransferError."""
        try:
            return self._early.begin(going, device, self._lanes(device))
        except RuntimeError as error:
            raise nothing_placed(device, error) from error

    def coming(self, device: torch.device) -> int:
        """Bytes that are taken on a device by what was not asked for yet; from any thread, without waiting."""
        return self._early.bytes if device == self._early.device else 0

    def stop(self) -> None:
        """What is on its way and was not asked for goes."""
        self._early.stop()

    def all(
        self, going: Sequence[Departure], device: torch.device, more: More
    ) -> tuple[list[tuple[Departure, Landed]], int]:
        """Every one on the device, of so many bytes that came early; or none. Raises TransferError.

        `more`: finds the rest of what goes, while these are on their way.
        """
        if not going or self._early.is_underway:
            going, more = [*going, *more()], list
        if not going:
            self.stop()
            return [], 0
        there = self._early.landed(going, device)
        early = sum(data.nbytes for data, _ in there.values())
        landed = [(each, there[id(each.tensor)]) for each in going if id(each.tensor) in there]
        rest = [each for each in going if id(each.tensor) not in there]
        try:
            landed += self._brought(rest, device, more) if rest else []
        except BaseException:
            there.clear()  # a traceback must not keep the new memory alive
            landed.clear()
            raise
        return landed, early

    def signature(self, going: Sequence[Departure], device: torch.device) -> Signature:
        """For what goes. Raises TransferError."""
        try:
            return self._signed([departure.bytes for departure in going], device)
        except RuntimeError as error:
            raise nothing_placed(device, error) from error

    def _brought(
        self, first: list[Departure], device: torch.device, more: More
    ) -> list[tuple[Departure, Landed]]:
        lane = self._lanes(device)
        going: list[Departure] = []
        signed: list[tuple[Signature, int]] = []
        states: dict[int, OnDevice] = {}

        def items_of(found: Sequence[Departure]) -> list[Item]:
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

        new = self._run(items_of(first), lane, arrived=arrived, more=lambda: items_of(more()))
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


def nothing_placed(device: torch.device, error: Exception) -> TransferError:
    """An error of a load that left everything as it was; holds no device memory."""
    let_go(error)
    return TransferError(None, f"nothing was placed on {device} ({error})")
