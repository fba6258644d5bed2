"""Which tensors a module has right now, where each of them is, and what their last load noted."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterator, MutableMapping
from dataclasses import dataclass

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from ..files.mapping import Registry
from .forms import companions_of
from .shells import parts_of
from .state import Elsewhere, OnDevice, State, look

_OF = " of "
"""Between the name of a parameter and that of a companion of its."""


@dataclass(frozen=True, eq=False)
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

    def entries(self, names: Collection[str] | None = None) -> list[Entry]:
        """Entries of the tensors that the module has now, or of those that have one of `names`."""
        found: dict[int, tuple[torch.Tensor, list[str]]] = {}
        for name, tensor in self._named():
            found.setdefault(id(tensor), (tensor, []))[1].append(name)
        wanted = None if names is None else set(names)
        return [
            Entry(tensor, tuple(own_names), self.state(tensor))
            for tensor, own_names in found.values()
            if wanted is None or any(name.partition(_OF)[0] in wanted for name in own_names)
        ]

    def replaced(self) -> list[Entry]:
        """Tensors on a device by our doing that the module has others for by now."""
        module = self._module()
        if module is None:
            return []
        own = {id(buffer) for buffer in module.buffers()}
        for tensor in module.parameters():
            own |= {id(t) for t in (tensor, *companions_of(tensor).values(), *parts_of(tensor).values())}
        left = [tensor for tensor in list(self._noted) if id(tensor) not in own]
        return [Entry(tensor, (), self.state(tensor)) for tensor in left]

    def state(self, tensor: torch.Tensor) -> State:
        """Where a tensor is now, of the module or one that was."""
        noted = self._noted.get(tensor) if self.away else None
        state = look(tensor, noted, self._registry)
        if noted is not None and state is not noted:
            del self._noted[tensor]
        return state

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

    def _named(self) -> Iterator[tuple[str, torch.Tensor]]:
        module = self._module()
        if module is not None:
            for name, tensor in module.named_parameters(remove_duplicate=False):
                parts = list(parts_of(tensor).values())
                if parts and not any(isinstance(self.state(part), Elsewhere) for part in parts):
                    yield from ((name, part) for part in parts)
                    continue
                yield name, tensor
                companions = companions_of(tensor)
                if companions and isinstance(self.state(tensor), Elsewhere):
                    continue  # the host moves it, and them with it
                for own, companion in companions.items():
                    yield f"{name}{_OF}{own}", companion
            yield from module.named_buffers(remove_duplicate=False)
