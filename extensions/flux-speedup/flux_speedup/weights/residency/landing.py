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


class Runner(Protocol):
    """What runs a transfer: `transfer` with an arena, or a stand-in."""

    def __call__(
        self, items: Sequence[Item], lane: Lane, *, arrived: Arrived | None
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

    def all(self, going: Sequence[Departure], device: torch.device) -> tuple[list[Landed], int]:
        """Every one on the device, of so many bytes that came early; or none. Raises TransferError."""
        if not going:
            self.stop()
            return [], 0
        there = self._early.landed(going, device)
        early = sum(data.nbytes for data, _ in there.values())
        rest = [departure for departure in going if id(departure.tensor) not in there]
        try:
            for departure, one in zip(rest, self._brought(rest, device), strict=True):
                there[id(departure.tensor)] = one
        except BaseException:
            there.clear()  # a traceback must not keep the new memory alive
            raise
        return [there[id(departure.tensor)] for departure in going], early

    def signature(self, going: Sequence[Departure], device: torch.device) -> Signature:
        """For what goes. Raises TransferError."""
        try:
            return self._signed([departure.bytes for departure in going], device)
        except RuntimeError as error:
            raise nothing_placed(device, error) from error

    def _brought(self, going: Sequence[Departure], device: torch.device) -> list[Landed]:
        if not going:
            return []
        lane = self._lanes(device)
        # Before the weights: what dropping them safely takes must not be what is missing then.
        signature = self.signature(going, device)

        states: dict[int, OnDevice] = {}

        def arrived(number: int, tensor: torch.Tensor) -> None:
            if going[number].recipe is None:
                signature.add(number, tensor)
                states[number] = going[number].landed(
                    tensor, signature, number
                )  # while others are on their way

        new = self._run([departure.item for departure in going], lane, arrived=arrived)
        try:
            _make_all(going, new, signature)
        except Exception as error:  # what makes is the host's
            new.clear()
            raise nothing_placed(device, error) from error
        return [
            (data, states.get(number) or going[number].landed(data, signature, number))
            for number, data in enumerate(new)
        ]


def _make_all(going: Sequence[Departure], new: list[torch.Tensor], signature: Signature) -> None:
    """In the place of the bytes that have arrived, one after the other, what the host makes of them."""
    for number, departure in enumerate(going):
        if departure.recipe is not None:
            new[number] = departure.made(new[number])
            signature.add(number, new[number])


def nothing_placed(device: torch.device, error: Exception) -> TransferError:
    """An error of a load that left everything as it was; holds no device memory."""
    let_go(error)
    return TransferError(None, f"nothing was placed on {device} ({error})")
