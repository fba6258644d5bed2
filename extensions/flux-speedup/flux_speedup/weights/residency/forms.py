"""Weights that are more than their bytes: what a host makes of a file's bytes once they are on a device.

At home such a weight is as the host read it, most often a view of its file. On the device it is what the host makes
of those bytes: made there, at each load, by the host's own function. So unloading forgets it as it does plain ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from ..files.span import dense, plain
from .shells import SHELLS, parts_of

Told = Callable[[torch.Tensor], None]
Merge = Callable[[torch.Tensor], torch.Tensor]
"""From a plain weight the one with something in it, in new memory."""


@dataclass(frozen=True, eq=False)
class Recipe:
    """How one weight becomes what it is on a device.

    `make`: from its bytes at home, on the device; queues on the current stream, and answers with new memory or with
    its argument's, of `dtype` and `shape`. `arrived`, `left`: the tensor object shows that now, or its home again.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[torch.Tensor], torch.Tensor]
    arrived: Told
    left: Told

    @property
    def bytes(self) -> int:
        """Bytes of what is made."""
        return math.prod(self.shape) * self.dtype.itemsize


class Kind(Protocol):
    """One of a host's classes of parameters, whose `data` are plain bytes all the same.

    `foreign`: why those that it does not own are only the host's to move.
    """

    foreign: str

    def owns(self, tensor: torch.Tensor) -> bool:
        """Whether this one can be moved here."""
        ...

    def recipe(self, tensor: torch.Tensor) -> Recipe | None:
        """What is to be made of it as it is now; None: it goes to the device as it is."""
        ...

    def companions(self, tensor: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Plain tensors that are where it is, by a name of their own (its scales, its code book)."""
        ...

    def merged(self, tensor: torch.Tensor, merge: Merge) -> torch.Tensor:
        """The weight with something merged into it, as the host makes it, where it is; in new memory."""
        ...


KINDS: dict[type[torch.Tensor], Kind] = {}
"""What is known of hosts' classes; their rooms put them in and take them out."""


def known(tensor: torch.Tensor) -> bool:
    """Whether we can move it: a plain tensor, a shell around plain ones, or one of a known kind, whose `data` and
    companions are all of its values."""
    if plain(tensor) or parts_of(tensor):
        return True
    kind = KINDS.get(type(tensor))
    return kind is not None and dense(tensor) and kind.owns(tensor)


def why_not(tensor: torch.Tensor) -> str:
    """Why only the host can move a tensor, in words."""
    kind = KINDS.get(type(tensor))
    return type(tensor).__name__ if kind is None else kind.foreign


def recipe_of(tensor: torch.Tensor) -> Recipe | None:
    """What is to be made of a tensor that is at home, once its bytes are on a device."""
    kind = KINDS.get(type(tensor))
    return None if kind is None else kind.recipe(tensor)


def companions_of(tensor: torch.Tensor) -> Mapping[str, torch.Tensor]:
    """Tensors that go and come with it."""
    kind = KINDS.get(type(tensor))
    return {} if kind is None else kind.companions(tensor)


def bytes_of(tensor: torch.Tensor) -> int:
    """Bytes of a tensor on a device, with its companions, or of a shell's parts."""
    if type(tensor) not in KINDS and type(tensor) not in SHELLS:
        return tensor.nbytes
    parts = parts_of(tensor)
    if parts:
        return sum(part.nbytes for part in parts.values())
    recipe = recipe_of(tensor)
    own = tensor.data.nbytes if recipe is None else recipe.bytes
    return own + sum(each.nbytes for each in companions_of(tensor).values())
