"""Where one tensor is: looked at, never only remembered.

At home: in RAM, or a view of its file. On the device: in the memory that we gave it. Elsewhere: in memory that
somebody else gave it, or of a kind that only the host can move. What was noted at a load counts only as long as the
tensor shows that very memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..files.mapping import MAPPINGS, Near, Registry
from ..files.span import Span
from .backing import Backing, classify
from .forms import Recipe
from .signature import Signature


class Place(NamedTuple):
    """Which memory a tensor shows, and as what. Holds none of it: the memory goes when nobody shows it."""

    device: torch.device
    address: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Place:
        data = tensor.data  # a host's class may tell another shape
        return cls(data.device, data.data_ptr(), data.dtype, tuple(data.shape), data.stride())


class AtHome(NamedTuple):
    """In RAM (`span` None) or a view of its file."""

    backing: Backing
    span: Span | None


@dataclass(eq=False, slots=True)  # made for each weight of a load; frozen ones take four times as long
class OnDevice:
    """In memory we gave it. `home`: the data it gets back, which `backing` tells of; `signature`, `number`: the
    checksum of what was put there; `recipe`: how that was made of its home's bytes."""

    home: torch.Tensor
    place: Place
    backing: Backing
    signature: Signature
    number: int
    recipe: Recipe | None = None


@dataclass(frozen=True)
class Elsewhere:
    """The host's, or somebody's, to move."""


State = AtHome | OnDevice | Elsewhere


def look(tensor: torch.Tensor, noted: OnDevice | None, registry: Registry | Near = MAPPINGS) -> State:
    """Where a tensor is now. `noted`: what its last load by us noted.

    Memory that was freed may be given out again at the same address, so what is on the device is checked against
    its signature before it is dropped.
    """
    if noted is not None and is_there(tensor, noted):
        return noted
    backing, span = classify(tensor, registry)
    return Elsewhere() if backing is Backing.NONE else AtHome(backing, span)


def is_there(tensor: torch.Tensor, noted: OnDevice) -> bool:
    """Whether a tensor shows the memory that its last load gave it."""
    place = noted.place
    if tensor.device != place.device:
        return False
    data = tensor.data
    return (
        data.data_ptr() == place.address
        and data.dtype == place.dtype
        and data.shape == place.shape
        and data.stride() == place.strides
    )


def is_on(tensor: torch.Tensor, state: State, device: torch.device) -> bool:
    """Whether a tensor's data is on a device (without a number: on any of that kind)."""
    if device.type == "cpu":  # one that stands for a device: its tensors do not say that they are there
        return isinstance(state, OnDevice)
    return tensor.device.type == device.type and device.index in (None, tensor.device.index)
