"""Weights that their owner brings by itself: they are ours, with their checksums, from when we are told."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch

from ..errors import WeightsError
from .data import same_memory, set_data
from .going import Departure
from .roster import Roster
from .signature import Signature
from .state import AtHome


class Arriving:
    """Of one residency, good until its weights are moved in another way."""

    def __init__(
        self,
        going: Sequence[Departure],
        signature: Signature,
        roster: Roster,
        lock: AbstractContextManager[object],
    ) -> None:
        self._going = {id(each.tensor): (number, each) for number, each in enumerate(going)}
        self._signature = signature
        self._roster = roster
        self._lock = lock

    def arrived(self, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Give tensors the memory on the device that has their bytes, complete for the caller's stream.

        Raises WeightsError where one of them is not at home as it was.
        """
        with self._lock:
            known = [self._at_home(tensor) for tensor, _ in pairs]
            made = [departure.made(data) for (_, data), (_, departure) in zip(pairs, known, strict=True)]
            for data, (number, _) in zip(made, known, strict=True):
                self._signature.add(number, data)
            set_data([(tensor, data) for (tensor, _), data in zip(pairs, made, strict=True)])
            for (tensor, _), (number, departure) in zip(pairs, known, strict=True):
                self._roster.note(tensor, departure.landed(tensor, self._signature, number))
                if departure.recipe is not None:
                    departure.recipe.arrived(tensor)

    def _at_home(self, tensor: torch.Tensor) -> tuple[int, Departure]:
        known = self._going.get(id(tensor))
        at_home = known is not None and same_memory(tensor, known[1].home)
        if known is None or not at_home or not isinstance(self._roster.state(tensor), AtHome):
            raise WeightsError(None, "a weight is not where it was when it was expected")
        return known
