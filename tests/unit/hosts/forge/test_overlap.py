"""When the transformer starts on its way ahead of its load, and when it gives way, on a stand-in for the host."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from flux_speedup.hosts.forge.overlap import MARGIN, Overlap
from flux_speedup.patching.table import PatchTable
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.residency.placement import Placement
from flux_speedup.weights.residency.residency import Residency
from tests.second_device import CARD, used
from tests.second_device.marks import needs_card
from tests.unit.weights.weight_files import module_of, residency_of, write_weights

pytestmark = needs_card
INFERENCE = 1 << 30
SIZE = 4 << 20


class VRAMState(Enum):
    NORMAL_VRAM = 0
    HIGH_VRAM = 1
    LOW_VRAM = 2


class Host:
    """The host's memory manager as far as this goes: a load makes room, then moves. `seen`: free at each load."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, room: int) -> None:
        """`room`: bytes of the card beside the transformer and all that is to be kept free."""
        self.registry = Registry()
        names = ("clip", "unet", "other")
        self.models = {name: self._model(folder / f"{name}.safetensors") for name in names}
        self.placement = Placement(self.registry)
        for patcher in self.models.values():
            self.placement._residencies[patcher.model] = residency_of(patcher.model, self.registry)
        self.total = used() + MARGIN + INFERENCE + 2 * SIZE + room
        self.manager: Any = ModuleType("backend.memory_management")
        self.manager.__dict__.update(
            VRAMState=VRAMState,
            vram_state=VRAMState.NORMAL_VRAM,
            ALWAYS_VRAM_OFFLOAD=False,
            current_loaded_models=[],
            minimum_inference_memory=lambda: INFERENCE,
            get_torch_device=lambda: CARD,
            get_free_memory=lambda dev=None, torch_free_too=False: self.total - used(),
            free_memory=self._free_memory,
            load_models_gpu=self._load_models_gpu,
        )
        self.processing: Any = ModuleType("modules.processing")
        self.processing.process_images_inner = lambda do: do()
        objects = SimpleNamespace(clip=SimpleNamespace(patcher=self.models["clip"]), unet=self.models["unet"])
        data = SimpleNamespace(sd_model=SimpleNamespace(forge_objects=objects))
        models: Any = ModuleType("modules.sd_models")
        models.model_data = data
        for module in (self.manager, self.processing, models):
            patch.setitem(sys.modules, module.__name__, module)
        self.seen: list[int] = []
        self.fails = False

    def _model(self, file: Path) -> Any:
        write_weights(file, {"weight": torch.randn(SIZE // 4)})
        module = module_of(self.registry.open(file).views())
        return SimpleNamespace(model=module, load_device=CARD)

    def _free_memory(self, memory_required: Any, device: Any, keep: Any = (), free_all: bool = False) -> None:
        self.seen.append(self.manager.get_free_memory(device))

    def _load_models_gpu(self, models: Any, memory_required: float = 0, hard: float = 0) -> None:
        self.manager.free_memory(INFERENCE + 1.3 * SIZE * len(models) + memory_required, CARD)
        for patcher in models:
            if self.fails:
                raise RuntimeError("on purpose")
            self.placement.load(patcher.model, CARD)
            self.manager.current_loaded_models.insert(0, SimpleNamespace(model=patcher))

    def load(self, name: str, memory_required: float = 0) -> None:
        self.manager.load_models_gpu([self.models[name]], memory_required)

    def request(self, *steps: Callable[[], Any]) -> None:
        self.processing.process_images_inner(lambda: [step() for step in steps])

    def residency(self, name: str) -> Residency:
        return self.placement.of(self.models[name].model)

    @property
    def coming(self) -> int:
        return self.residency("unet").coming(CARD)


@pytest.fixture
def host_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Host]]:
    tables: list[PatchTable] = []

    def make(room: int = 32 * SIZE) -> Host:
        host = Host(tmp_path, monkeypatch, room)
        table = PatchTable(logging.getLogger("test"))
        table.add("overlap", "title", "why", Overlap(host.placement, {CARD.type}).changes())
        tables.append(table)
        return host

    yield make
    for table in tables:
        table.put_back()


def test_between_both_loads_it_is_on_its_way_and_the_host_counts_as_ever(host_with: Any) -> None:
    host = host_with()
    free = host.total - used()
    during: list[int] = []
    host.request(
        lambda: host.load("clip"),
        lambda: during.append(host.coming),
        lambda: during.append(host.manager.get_free_memory(CARD)),
        lambda: host.load("unet"),
    )
    assert during[0] == SIZE
    assert during[1] <= free - 2 * SIZE  # whoever else asks is told the truth
    assert host.seen[1] == during[1] + SIZE  # but the host, which wants it now, finds it free
    assert host.placement.arrival(host.models["unet"].model).early == SIZE
    assert host.coming == 0
    assert host.residency("unet").unload().copied_back == ()


@pytest.mark.parametrize("why", ["no room", "no request", "there already", "low vram", "other encoders"])
def test_it_is_not_begun(host_with: Any, why: str) -> None:
    host = host_with(8 * SIZE if why == "no room" else 32 * SIZE)
    if why == "there already":
        host.load("unet")
    if why == "low vram":
        host.manager.vram_state = VRAMState.LOW_VRAM
    name = "other" if why == "other encoders" else "clip"
    found: list[int] = []
    if why == "no request":
        host.load(name)
        found.append(host.coming)
    else:
        host.request(lambda: host.load(name), lambda: found.append(host.coming))
    assert found == [0]


@pytest.mark.parametrize("who", ["somebody with room", "somebody without", "everything goes", "the end"])
def test_it_gives_way_to_whoever_needs_the_memory(host_with: Any, who: str) -> None:
    host = host_with()
    found: list[int] = []
    other = {
        "somebody with room": lambda: host.load("other"),
        "somebody without": lambda: host.load("other", MARGIN + 32 * SIZE),
        "everything goes": lambda: host.manager.free_memory(1e30, CARD, (), True),
        "the end": lambda: None,
    }[who]
    host.request(lambda: host.load("clip"), other, lambda: found.append(host.coming))
    assert found == [SIZE if who in ("somebody with room", "the end") else 0]
    assert host.coming == 0
    assert host.residency("unet").resident == ()


@pytest.mark.parametrize("failing", ["clip", "unet"])
def test_a_load_that_fails_leaves_nothing_on_its_way(host_with: Any, failing: str) -> None:
    host = host_with()

    def fail() -> None:
        host.fails = True
        with pytest.raises(RuntimeError, match="on purpose"):
            host.load(failing)
        host.fails = False

    steps = [fail] if failing == "clip" else [lambda: host.load("clip"), fail]
    found: list[int] = []
    host.request(*steps, lambda: found.append(host.coming))
    assert found == [0]
