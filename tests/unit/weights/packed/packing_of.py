"""Packed files of tiny weight files: shared by this folder's tests."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from flux_speedup.weights.files.identity import identity
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.files.span import Span
from flux_speedup.weights.packed.choice import Choice
from flux_speedup.weights.packed.decoding import PLAIN
from flux_speedup.weights.packed.index import Index, index_of, lock_of, packed_of
from flux_speedup.weights.packed.packing import packing
from flux_speedup.weights.packed.progress import FileProgress
from flux_speedup.weights.packed.room import Room
from flux_speedup.weights.packed.store import Store
from flux_speedup.weights.transfer.reader import Source
from tests.unit.weights.weight_files import CARD, file_opener, module_of, residency_of, write_weights

Making = Generator[FileProgress, None, None]


def weights(count: int = 70_000, seed: int = 0) -> torch.Tensor:
    """As a trained layer has them."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(count, generator=generator) * 0.02).to(torch.bfloat16)


def checkpoint() -> dict[str, torch.Tensor]:
    """Whole and broken blocks, a tensor that gains nothing, one that is small, one with an odd size."""
    return {
        "layer.weight": weights(5 * 65536).view(320, 1024),
        "odd.weight": weights(65536 + 4097, 1),
        "bias": weights(64, 2),
        "norm": torch.linspace(0, 1, 9),
        "table": (weights(530_000, 3).float()).to(torch.float16),
    }


@dataclass(frozen=True)
class Places:
    """The files of one packed file."""

    packed: Path

    @property
    def index(self) -> Path:
        return index_of(self.packed)

    @property
    def lock(self) -> Path:
        return lock_of(self.packed)

    def entries(self) -> int:
        """How many tensors are there."""
        index = Index.read(self.packed)
        return len(index.entries) if index is not None else 0


def places_of(path: Path, folder: Path) -> Places:
    found = identity(path)
    assert found is not None
    return Places(packed_of(found, folder))


def room_in(folder: Path, limit: int = 1 << 40, free: int = 1 << 50, **more: Any) -> Room:
    return Room(folder, limit, free=lambda _: free, **more)


def pack(path: Path, room: Room) -> list[str]:
    """All of it; the states that it went through."""
    return finish(packing(path, room))


def begun(path: Path, room: Room, tensors: int = 1) -> Making:
    """So many tensors of it."""
    making = packing(path, room)
    for _ in range(tensors):
        next(making)
    return making


def finish(making: Making) -> list[str]:
    return [now.state for now in making]


def chosen(device: torch.device = CARD, *, rate: float = 1e12) -> Choice:
    """As if decoding on the device had been measured."""
    choice = Choice(kinds=frozenset({device.type}))
    choice.device, choice.decoder, choice.bus = device, replace(PLAIN, rate=rate), rate / 10
    return choice


def is_packed(path: Path) -> bool:
    """For a store: packed files are in RAM, and weight files are not."""
    return path.suffix == ".packed"


@dataclass
class Loading:
    """A weight file, which is not in RAM, with a store beside it, and loads of it in this process."""

    path: Path
    folder: Path
    registry: Registry
    store: Store

    @classmethod
    def of(cls, folder: Path, tensors: Mapping[str, torch.Tensor] | None = None) -> Loading:
        path = write_weights(folder / "flux.safetensors", tensors or checkpoint())
        registry = Registry(leases=False)
        store = Store(registry, chosen(), is_packed)
        store.use(folder / "packed")
        return cls(path, folder / "packed", registry, store)

    @property
    def places(self) -> Places:
        return places_of(self.path, self.folder)

    def load(self) -> tuple[dict[str, bytes], list[Path]]:
        """The bytes of every weight on the card, and the files that were read for them."""
        read: list[Path] = []
        views = self.registry.open(self.path).views()
        module = module_of({name.replace(".", "_"): view for name, view in views.items()})

        def opened(what: Span | torch.Tensor) -> Source:
            read.extend([what.path] if isinstance(what, Span) else [])
            return file_opener(self.registry)(what)

        residency = residency_of(module, self.registry, store=self.store, opener=opened)
        residency.load(CARD)
        found = {
            name: bytes(each.detach().reshape(-1).view(torch.uint8).numpy())
            for name, each in module.named_parameters()
        }
        residency.unload()
        return found, read
