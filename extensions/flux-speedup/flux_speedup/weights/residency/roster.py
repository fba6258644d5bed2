"""Which tensors a module has right now, and what is remembered about each."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterable, Iterator, MutableMapping

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from .entry import Entry, set_data

_Cast = tuple[torch.dtype, torch.Tensor]


class Roster:
    """The entries of one module, found anew at every question: hosts replace parameters. Holds it weakly."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = weakref.ref(module)
        self._entries: dict[int, Entry] = {}
        # By tensor and not by entry: one that left the module may come back with the data it had.
        self._casts: MutableMapping[torch.Tensor, _Cast] = WeakTensorKeyDictionary()

    def remember_cast(self, entry: Entry, dtype: torch.dtype, view: torch.Tensor) -> None:
        """Where the tensor's home is `view`, it has `dtype` on the device."""
        entry.cast, entry.cast_view = dtype, view
        self._casts[entry.tensor] = dtype, view

    def chosen(self, names: Collection[str] | None = None) -> list[Entry]:
        """Entries of the tensors that the module has now, or of those that have one of `names`.

        What left the module is forgotten, unless it is marked merged.
        """
        found: dict[int, tuple[torch.Tensor, list[str]]] = {}
        for name, tensor in self._named():
            found.setdefault(id(tensor), (tensor, []))[1].append(name)
        entries: dict[int, Entry] = {}
        for key, (tensor, own_names) in found.items():
            entry = entries[key] = self._entries.get(key) or self._new(tensor)
            entry.names = tuple(own_names)
        self._entries = {**{key: e for key, e in self._entries.items() if e.merged}, **entries}
        if names is None:
            return list(entries.values())
        wanted = set(names)
        return [entry for entry in entries.values() if wanted.intersection(entry.names)]

    @property
    def casts(self) -> bool:
        """Whether any weight was ever a cast of its file."""
        return bool(self._casts)

    @property
    def away(self) -> bool:
        """Whether any entry is on a device, as far as is known without a look at the module."""
        return any(entry.away for entry in self._entries.values())

    def mark_merged(self, names: Iterable[str]) -> None:
        """Marks those on a device; where a merge put a new parameter in, the old one's clean memory goes."""
        wanted = set(names)
        known = list(self._entries.values())
        present = {id(entry) for entry in self.chosen()}
        for entry in known:
            if entry.host is None or not wanted.intersection(entry.names):
                continue
            if id(entry) not in present:
                set_data([(entry.tensor, entry.host)])
                self._entries[id(entry.tensor)] = entry
            entry.set_merged()

    def put_back_replaced(self, names: Collection[str] | None) -> None:
        """Where a merge put a new parameter into the module, ours takes its place again."""
        if not any(entry.merged for entry in self._entries.values()):
            return
        module = self._module()
        present = {id(entry) for entry in self.chosen()}
        for entry in self._entries.values():
            chosen = names is None or not set(names).isdisjoint(entry.names)
            if module is not None and chosen and entry.merged and id(entry) not in present:
                for name in entry.names:
                    _put_back(module, name, entry.tensor)

    def _new(self, tensor: torch.Tensor) -> Entry:
        dtype, view = self._casts.get(tensor) or (None, None)
        return Entry(tensor, (), cast=dtype, cast_view=view)

    def _named(self) -> Iterator[tuple[str, torch.Tensor]]:
        module = self._module()
        if module is not None:
            yield from module.named_parameters(remove_duplicate=False)
            yield from module.named_buffers(remove_duplicate=False)


def _put_back(module: torch.nn.Module, name: str, tensor: torch.Tensor) -> None:
    parent, _, leaf = name.rpartition(".")
    owner = module.get_submodule(parent)
    if isinstance(tensor, torch.nn.Parameter):
        owner._parameters[leaf] = tensor
    else:
        owner._buffers[leaf] = tensor
