"""Weights that a LoRA is merged into, and the clean ones behind them, in the host's own `LoraLoader.backup`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from ...weights.errors import WeightsError
from ...weights.named import named_modules
from ..common.engine import CPU

# What a loader has loaded once merged weights were dropped: equal to no list of LoRAs.
DROPPED = "merged weights were dropped with the model"


class Slot(NamedTuple):
    """The part of a model that has a weight, its name there, and what is there now."""

    owner: Any
    leaf: str
    now: Any


class Merged(dict[str, torch.nn.Parameter]):
    """`LoraLoader.backup` while weights are merged by us: key -> the clean parameter that the module had there.

    It is at home (unless the module has it under another name as well), and becomes the module's again by being
    put back, with whatever the host does then. `owners`: the part of the model that each was taken from, whatever
    is in its place meanwhile.
    """

    def __init__(self) -> None:
        super().__init__()
        self.owners: dict[str, torch.nn.Module] = {}

    @classmethod
    def of(cls, model: torch.nn.Module, backup: Mapping[str, Any]) -> Merged:
        """From the host's own backup."""
        merged = cls()
        merged.update(backup)
        merged.owners = {key: owner for key, (owner, _, _) in slots(model, backup).items()}
        return merged

    def take_back(self, key: str) -> torch.Tensor | None:
        """The clean parameter is its owner's again; what was there."""
        owner, leaf, clean = self.owners.pop(key), key.rpartition(".")[2], self.pop(key)
        merged = owner._parameters.get(leaf)
        # Somebody else may have put a tensor in here; the host takes one, too.
        own = isinstance(clean, torch.nn.Parameter)
        setattr(owner, leaf, clean if own else torch.nn.Parameter(clean, requires_grad=False))
        return merged


@dataclass(frozen=True)
class TakenBack:
    """How many clean weights are the module's again, and the bytes of merged ones on a device that went."""

    count: int
    bytes: int


def put_merged(loader: Any, key: str, place: Slot, merged: torch.Tensor) -> None:
    """A merged weight takes the place of the clean one, which the loader's backup has from now on."""
    owner, leaf, clean = place
    if not isinstance(loader.backup, Merged):
        if loader.backup:
            raise WeightsError(None, f"{key}: the WebUI has merged by itself, and has the clean weights")
        loader.backup = Merged()
    if key not in loader.backup:
        loader.backup[key], loader.backup.owners[key] = clean, owner
    own = isinstance(merged, torch.nn.Parameter)
    setattr(owner, leaf, merged if own else torch.nn.Parameter(merged, requires_grad=False))


def take_back(loader: Any, names: Collection[str] | None = None) -> TakenBack:
    """The clean weights (or those of `names`) are the module's again where we had merged into them; the merged ones
    are let go. The next `refresh` merges again. All of them: also those that the host has merged into, from its
    copies, as its own `refresh` would begin."""
    backup = getattr(loader, "backup", None)
    if not isinstance(backup, Merged):
        if not backup or names is not None:
            return TakenBack(0, 0)
        backup = Merged.of(loader.model, backup)
    keys = [key for key in backup.owners.keys() & backup.keys() if names is None or key in names]
    dropped = 0
    for key in keys:
        merged = backup.take_back(key)
        if merged is not None and merged.device != CPU:
            dropped += merged.nbytes
    if keys:
        loader.loaded_hash = DROPPED
    if not backup:
        loader.backup = {}
    return TakenBack(len(keys), dropped)


def is_hosts(loader: Any) -> bool:
    """Whether the host itself has merged, and keeps copies of what was there before."""
    backup = getattr(loader, "backup", None)
    return bool(backup) and not isinstance(backup, Merged)


def is_merged(module: torch.nn.Module) -> bool:
    """Whether a LoRA is merged into a module by us."""
    backup = getattr(getattr(module, "lora_loader", None), "backup", None)
    return isinstance(backup, Merged) and bool(backup)


def slots(model: torch.nn.Module, keys: Iterable[str]) -> dict[str, Slot]:
    """Where weights are, by their names. Raises AttributeError for a name that the model does not have."""
    parts = dict(named_modules(model))
    found: dict[str, Slot] = {}
    for key in keys:
        parent, _, leaf = key.rpartition(".")
        # Parts are listed under their first names.
        owner = parts[parent] if parent in parts else model.get_submodule(parent)
        found[key] = Slot(owner, leaf, getattr(owner, leaf))
    return found
