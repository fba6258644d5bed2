"""Which tensors a module has right now, where each of them is, and what their last load noted."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterable, Iterator, MutableMapping
from dataclasses import dataclass

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from ..files.mapping import Near, Registry
from ..named import all_names
from .forms import KINDS, companions_of
from .shells import SHELLS, parts_of
from .state import Elsewhere, OnDevice, State, look

_OF = " of "
"""Between the name of a parameter and that of a companion of its."""


@dataclass(eq=False, slots=True)
class Entry:
    """One tensor object of a module, under all its names (tied parameters are one entry), and where it is now."""

    tensor: torch.Tensor
    names: tuple[str, ...]
    state: State

    @property
    def parameter(self) -> str:
        """Its own name, or that of the parameter it is a companion of."""
        return self.names[0].partition(_OF)[0]


class Roster:
    """The entries of one module, found anew at every question: hosts replace parameters and move them.

    Holds module and tensors weakly. What was noted of a tensor is forgotten with it, and when it has moved.
    """

    def __init__(self, module: torch.nn.Module, registry: Registry) -> None:
        self._module = weakref.ref(module)
        self._registry = registry
        self._noted: MutableMapping[torch.Tensor, OnDevice] = WeakTensorKeyDictionary()

    def entries(self, names: Collection[str] | None = None, *, ours: bool = False) -> list[Entry]:
        """Entries of the tensors that the module has now, or of those that have one of `names`.

        `ours`: of those among them that are on a device by our doing, without a look at any other.
        """
        entries = self.look(names, ours=ours)
        return [entry for entry in entries if isinstance(entry.state, OnDevice)] if ours else list(entries)

    def look(self, names: Collection[str] | None = None, *, ours: bool = False) -> Iterator[Entry]:
        """`entries`, each looked at only when it is asked for."""
        near, noted = Near(self._registry), self._all_noted()
        if ours and not noted:
            return
        found: dict[int, tuple[torch.Tensor, list[str]]] = {}
        for name, tensor in self._named(near):
            known = found.get(id(tensor))
            if known is not None:
                known[1].append(name)
            elif not ours or id(tensor) in noted:
                found[id(tensor)] = tensor, [name]
        wanted = None if names is None else set(names)
        for key, (tensor, own) in found.items():
            if wanted is None or _is_among(own, wanted):
                yield Entry(tensor, tuple(own), self._look(tensor, noted.get(key), near))

    def replaced(self, entries: Iterable[Entry]) -> list[Entry]:
        """Tensors on a device by our doing that the module, of which these are all, has others for by now."""
        listed = {id(entry.tensor) for entry in entries}
        left = [tensor for tensor in list(self._noted) if id(tensor) not in listed]
        module = self._module()
        if module is None or not left:
            return []
        own: set[int] = set()  # what is around or beside one that only the host moves is not listed
        for tensor in module.parameters():
            own |= {id(t) for t in (tensor, *companions_of(tensor).values(), *parts_of(tensor).values())}
        return [Entry(tensor, (), self.state(tensor)) for tensor in left if id(tensor) not in own]

    def state(self, tensor: torch.Tensor, registry: Registry | Near | None = None) -> State:
        """Where a tensor is now, of the module or one that was."""
        noted = self._noted.get(tensor) if self.away else None
        return self._look(tensor, noted, registry or self._registry)

    def there(self) -> list[torch.Tensor]:
        """Tensors that are on a device by our doing, of the module or ones that were."""
        near, noted = Near(self._registry), list(self._noted.items())
        return [tensor for tensor, state in noted if isinstance(self._look(tensor, state, near), OnDevice)]

    def note(self, tensor: torch.Tensor, state: OnDevice) -> None:
        """The tensor has just been given memory on a device."""
        self._noted[tensor] = state

    def forget(self, tensor: torch.Tensor) -> None:
        """The tensor has just come home."""
        self._noted.pop(tensor, None)

    @property
    def away(self) -> bool:
        """Whether any tensor may be on a device by our doing, as far as is known without a look."""
        return len(self._noted) > 0

    def _look(self, tensor: torch.Tensor, noted: OnDevice | None, registry: Registry | Near) -> State:
        state = look(tensor, noted, registry)
        if noted is not None and state is not noted:
            del self._noted[tensor]
        return state

    def _all_noted(self) -> dict[int, OnDevice]:
        """What is noted, by the ids of tensors that live: asked once for all of them, that costs far less."""
        return {id(tensor): state for tensor, state in list(self._noted.items())} if self.away else {}

    def _named(self, near: Near) -> Iterator[tuple[str, torch.Tensor]]:
        module = self._module()
        parameters, buffers = all_names(module) if module is not None else ([], [])
        for name, tensor in parameters:
            if type(tensor) not in SHELLS and type(tensor) not in KINDS:
                yield name, tensor
                continue
            parts = list(parts_of(tensor).values())
            if parts and not any(isinstance(self.state(part, near), Elsewhere) for part in parts):
                yield from ((name, part) for part in parts)
                continue
            yield name, tensor
            companions = companions_of(tensor)
            if companions and isinstance(self.state(tensor, near), Elsewhere):
                continue  # the host moves it, and them with it
            for own, companion in companions.items():
                yield f"{name}{_OF}{own}", companion
        yield from buffers


def _is_among(names: Collection[str], wanted: Collection[str]) -> bool:
    """Whether one of an entry's names, or that of the parameter it is a companion of, is wanted."""
    return any(name in wanted or (_OF in name and name.partition(_OF)[0] in wanted) for name in names)
