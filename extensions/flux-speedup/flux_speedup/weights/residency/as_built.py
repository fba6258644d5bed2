"""A module as it was when it was built, and the way back to exactly that."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

import torch

from ..errors import WeightsError
from ..named import named_modules
from .data import same_memory, set_data
from .forms import KINDS, companions_of, known
from .shells import SHELLS, parts_of, settle

_OWN = {"_parameters", "_buffers", "_modules"}
_CPU = torch.device("cpu")
_NONE: dict[Any, Any] = {}
_Slot = tuple[dict[str, Any], str, "torch.Tensor | None"]


class _Own(NamedTuple):
    """A tensor object that a module was built with, and what it showed. `alive` answers None once it is gone."""

    alive: Callable[[], torch.Tensor | None]
    data: torch.Tensor
    requires_grad: bool

    @classmethod
    def of(cls, tensor: torch.Tensor) -> _Own:
        # One that tells nothing but its data can be made anew. Held, it would keep memory on a device once the host
        # has put another in its place.
        plain = type(tensor) is torch.nn.Parameter and not vars(tensor)
        return cls(weakref.ref(tensor) if plain else lambda: tensor, tensor.data, tensor.requires_grad)

    def anew(self) -> torch.Tensor:
        return torch.nn.Parameter(self.data, self.requires_grad)


class AsBuilt:
    """Remembers which tensor objects a module had at home, which memory each showed, its hooks and attributes.

    What a part was given since (a hook, a `forward` of its own, whatever a cache was put into) is taken from it, as
    a new build would not have it. Costs no memory while the module still uses its own; where somebody gave it
    another tensor or other data (a merge, a cast, pinned copies), what it showed at home stays alive here. What was
    written in place is not seen.

    Raises WeightsError for a module with a tensor that is not at home, or that only the host can move.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module
        parts = list(module.modules())
        slots = list(_slots(parts))
        self._slots = [(place, name, None if tensor is None else id(tensor)) for place, name, tensor in slots]
        self._shape = _shape(module)
        tensors = {id(tensor): tensor for _, _, tensor in slots if tensor is not None}
        for own in list(tensors.values()):
            tensors |= {id(each): each for each in (*companions_of(own).values(), *parts_of(own).values())}
        left = next((t for t in tensors.values() if not known(t) or t.device != _CPU), None)
        if left is not None:
            name = type(module).__name__
            raise WeightsError(None, f"{name} has a {type(left).__name__} on {left.device} that stays there")
        self._tensors = {number: _Own.of(tensor) for number, tensor in tensors.items()}
        # What a class of the host's tells of its tensors, such as in which form their data are.
        classes = KINDS.keys() | SHELLS.keys()
        self._told = [(tensor, dict(vars(tensor))) for tensor in tensors.values() if type(tensor) in classes]
        self._attributes = [(part, _attributes(part)) for part in parts]
        # Filled and emptied in place by whoever registers and removes one, whose handle knows this very object.
        found = (hooks for _, attributes in self._attributes for hooks in _hooks(attributes))
        self._hooks = [(hooks, dict(hooks) if hooks else _NONE) for hooks in found]

    def leave(self, ours: Collection[int]) -> None:
        """Tensors on a device, but for `ours` by their ids, show the data again that they were built with.

        What the host itself has made of them there it would else copy to RAM, for `restore` to drop.
        """
        set_data([(t, data) for t, data in self._shown() if t.device != _CPU and id(t) not in ours])

    def restore(self) -> int:
        """Make the module what it was; returns how many tensors were others, or showed others' data.

        Raises WeightsError where it has other parts than it was built with; nothing has changed then.
        """
        if _shape(self._module) != self._shape:
            reason = f"{type(self._module).__name__} has other parts than it was built with"
            raise WeightsError(None, reason)
        other = [(t, data) for t, data in self._shown() if not same_memory(t, data) or t.device != _CPU]
        set_data(list(other))
        for one, told in self._told:
            vars(one).clear()
            vars(one).update(told)
            settle(one)
        now: dict[int | None, torch.Tensor | None] = {None: None}
        for number, each in self._tensors.items():
            tensor = each.alive()
            if tensor is None:
                tensor = each.anew()
                self._tensors[number] = _Own.of(tensor)
            now[number] = tensor
        replaced = [slot for slot in self._slots if slot[0][slot[1]] is not now[slot[2]]]
        for tensors, name, kept in replaced:
            tensors[name] = now[kept]
        for part, attributes in self._attributes:
            for name in vars(part).keys() - attributes.keys() - _OWN:
                del part.__dict__[name]
            vars(part).update(attributes)
        for hooks, own in self._hooks:
            if hooks or own:  # a dozen a part, and hardly ever one in them
                hooks.clear()
                hooks.update(own)
        return len(other) + len(replaced)

    def _shown(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Those of its tensors that are alive, and what each showed."""
        for own in self._tensors.values():
            tensor = own.alive()
            if tensor is not None and type(tensor) not in SHELLS:
                yield tensor, own.data


def _slots(parts: Iterable[torch.nn.Module]) -> Iterator[_Slot]:
    for part in parts:
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                yield tensors, name, tensor


def _attributes(part: torch.nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(part).items() if name not in _OWN}


def _hooks(attributes: dict[str, Any]) -> list[dict[Any, Any]]:
    return [value for name, value in attributes.items() if "_hooks" in name and isinstance(value, dict)]


def _shape(module: torch.nn.Module) -> list[tuple[str, int, tuple[str, ...], tuple[str, ...]]]:
    return [
        (name, id(part), tuple(sorted(part._parameters)), tuple(sorted(part._buffers)))
        for name, part in named_modules(module)
    ]
