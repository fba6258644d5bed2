"""When weights start on their way ahead of their loads, and when they give way, on a stand-in for the host."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from flux_speedup.hosts.common.overlap import MARGIN, Overlap
from flux_speedup.hosts.common.wanted import Loads
from flux_speedup.hosts.forge.overlap import ForgeLoads
from flux_speedup.patching.table import PatchTable
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.residency.placement import Placement
from flux_speedup.weights.residency.residency import Residency
from flux_speedup.weights.transfer.lane import PlainLane
from tests.second_device import CARD, used
from tests.second_device.marks import needs_card
from tests.unit.weights.weight_files import module_of, residency_of, write_weights
from tests.waiting import PATIENCE_S

pytestmark = needs_card
INFERENCE = 1 << 30
SIZE = 4 << 20
SUMS = 2 * (33 << 20)
"""What checksums of two transfers take until they are asked for."""


class VRAMState(Enum):
    NORMAL_VRAM = 0
    HIGH_VRAM = 1
    LOW_VRAM = 2


class Host:
    """The host's memory manager as far as this goes: a load makes room, then moves. `seen`: free at each load."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, room: int, loads: Loads) -> None:
        """`room`: bytes of the card beside both models and all that is to be kept free."""
        self.folder = folder
        self.registry = Registry()
        names = ("clip", "unet", "other")
        self.models = {name: self._model(folder / f"{name}.safetensors") for name in names}
        self.files = dict(self.models)
        self.placement = Placement(self.registry, lanes=PlainLane)
        self.overlap = Overlap(self.placement, loads, {CARD.type})
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
            text_encoder_device=lambda: CARD,
            get_free_memory=lambda dev=None, torch_free_too=False: self.total - used(),
            free_memory=self._free_memory,
            load_models_gpu=self._load_models_gpu,
        )
        self.processing: Any = ModuleType("modules.processing")
        self.processing.process_images_inner = lambda do: do()
        self.processing.manage_model_and_prompt_cache = lambda do: do()
        self.engine = self._engine()
        self.data = SimpleNamespace(
            sd_model=self.engine, forge_loading_parameters={"unet_storage_dtype": None}
        )
        models: Any = ModuleType("modules.sd_models")
        models.model_data = self.data
        models.forge_loader = self._forge_loader
        self.loader: Any = ModuleType("backend.loader")
        self.loader.split_state_dict = self._split
        self.built: list[Callable[[], Any]] = []
        self.sd_models = models
        for module in (self.manager, self.processing, self.loader, models):
            patch.setitem(sys.modules, module.__name__, module)
        self.seen: list[int] = []
        self.fails = False
        self.switch_off: Callable[[], object] = lambda: None

    def _model(self, file: Path) -> Any:
        write_weights(file, {"weight": torch.randn(SIZE // 4)})
        module = module_of(self.registry.open(file).views())
        return SimpleNamespace(model=module, load_device=CARD)

    def _engine(self) -> Any:
        clip = SimpleNamespace(patcher=self.models["clip"])
        return SimpleNamespace(forge_objects=SimpleNamespace(clip=clip, unet=self.models["unet"]))

    def _split(self) -> tuple[dict[str, Any], Any]:
        views = {name: dict(self.files[name].model.named_parameters()) for name in ("clip", "unet")}
        parts = {"text_encoder": views["clip"], "transformer": views["unet"], "vae": {}}
        return parts, SimpleNamespace(unet_target="transformer")

    def _forge_loader(self) -> Any:
        self.loader.split_state_dict()
        for step in self.built:
            step()
        return self._engine()

    def build(self, *meanwhile: Callable[[], Any]) -> Any:
        """A request's beginning: a model is built, and that happens meanwhile."""
        self.built = list(meanwhile)

        def reload() -> None:
            self.data.sd_model = self.sd_models.forge_loader()

        self.processing.manage_model_and_prompt_cache(reload)

    def bring_back(self, *meanwhile: Callable[[], Any]) -> None:
        """A request's beginning: another model that was built before is used again."""

        def reload() -> None:
            for step in meanwhile:
                step()
            self.data.sd_model = self._engine()

        self.processing.manage_model_and_prompt_cache(reload)

    def _free_memory(self, memory_required: Any, device: Any, keep: Any = (), free_all: bool = False) -> None:
        self.seen.append(self.manager.get_free_memory(device))

    def _load_models_gpu(self, models: Any, memory_required: float = 0, hard: float = 0) -> None:
        models = list(models)
        self.manager.free_memory(INFERENCE + 1.3 * SIZE * len(models) + memory_required, CARD)
        for patcher in models:
            if self.fails:
                raise RuntimeError("on purpose")
            self.placement.load(patcher.model, CARD)
            self.manager.current_loaded_models.insert(0, SimpleNamespace(model=patcher))

    def load(self, name: str, memory_required: float = 0) -> None:
        # As whoever has them one by one may ask.
        self.manager.load_models_gpu((self.models[each] for each in [name]), memory_required)

    def request(self, *steps: Callable[[], Any]) -> None:
        self.processing.process_images_inner(lambda: [step() for step in steps])

    def residency(self, name: str) -> Residency:
        return self.placement.of(self.models[name].model)

    @property
    def coming(self) -> int:
        return sum(each.early.bytes for each in self.overlap._coming)

    def settled(self) -> int:
        """Bytes on their way once those that follow others have begun."""
        for each in list(self.overlap._coming):
            end = time.monotonic() + PATIENCE_S
            while not (each.early.bytes or each.early._over) and time.monotonic() < end:
                time.sleep(0.001)
        return self.coming


@pytest.fixture
def host_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Host]]:
    tables: list[PatchTable] = []

    def make(room: int = 32 * SIZE, loads: Loads | None = None) -> Host:
        host = Host(tmp_path, monkeypatch, room, loads or ForgeLoads())
        table = PatchTable(logging.getLogger("test"))
        table.add("overlap", "title", "why", host.overlap.changes())
        tables.append(table)
        host.switch_off = table.put_back
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


@pytest.mark.parametrize("who", ["another load", "somebody without", "everything goes", "the end"])
def test_it_gives_way_to_whoever_needs_the_memory(host_with: Any, who: str) -> None:
    host = host_with()
    found: list[int] = []
    other = {
        "another load": lambda: host.load("other"),
        "somebody without": lambda: host.manager.free_memory(host.total, CARD),
        "everything goes": lambda: host.manager.free_memory(1e30, CARD, (), True),
        "the end": lambda: None,
    }[who]
    host.request(lambda: host.load("clip"), other, lambda: found.append(host.coming))
    assert found == [SIZE if who == "the end" else 0]
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


# Models that are built, or come back.

BEGINNINGS = [Host.build, Host.bring_back]


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_both_are_on_their_way_from_the_beginning_and_the_host_counts_as_ever(
    host_with: Any, begin: Callable[..., None]
) -> None:
    host = host_with()
    free = host.total - used()
    during: list[int] = []
    begin(host)
    assert host.settled() == 2 * SIZE
    host.request(
        lambda: host.load("clip"),
        lambda: during.append(host.coming),
        lambda: host.load("unet"),
        lambda: during.append(host.coming),
    )
    assert during == [SIZE, 0]
    assert host.seen[0] >= free - SUMS
    for name in ("clip", "unet"):
        assert host.placement.arrival(host.models[name].model).early == SIZE
        assert host.residency(name).unload().copied_back == ()


@pytest.mark.parametrize("begin", BEGINNINGS)
@pytest.mark.parametrize("why", ["no room", "low vram", "text encoders at home", "another dtype"])
def test_they_do_not_come_from_the_beginning(host_with: Any, begin: Callable[..., None], why: str) -> None:
    host = host_with(-1 if why == "no room" else 32 * SIZE)
    if why == "low vram":
        host.manager.vram_state = VRAMState.LOW_VRAM
    if why == "text encoders at home":
        host.manager.text_encoder_device = lambda: torch.device("cpu")
    if why == "another dtype":
        host.data.forge_loading_parameters["unet_storage_dtype"] = torch.float8_e4m3fn
    during: list[int] = []
    begin(host, lambda: during.append(host.settled()))
    assert not any(during)
    assert bool(host.settled()) is (why == "another dtype")  # as it was built it is what will be asked for


@pytest.mark.parametrize("there", ["clip", "unet"])
def test_a_model_of_which_something_is_there_comes_as_it_is_asked_for(host_with: Any, there: str) -> None:
    host = host_with()
    host.load(there)
    host.bring_back()
    assert host.coming == 0


def test_what_is_announced_is_on_its_way_before_it_is_the_hosts(host_with: Any) -> None:
    host = host_with()
    during: list[int] = []

    def announced() -> None:
        host.overlap.comes(host.engine)
        during.append(host.settled())

    host.bring_back(announced)
    host.request(lambda: host.load("clip"), lambda: host.load("unet"))
    assert during == [2 * SIZE]
    for name in ("clip", "unet"):
        assert host.placement.arrival(host.models[name].model).early == SIZE


def test_what_is_announced_and_then_built_anew_goes_for_what_is_built(host_with: Any) -> None:
    host = host_with()
    before = used()

    def reload() -> None:
        host.overlap.comes(host.engine)
        assert host.settled() == 2 * SIZE
        host.data.sd_model = host.sd_models.forge_loader()

    host.processing.manage_model_and_prompt_cache(reload)
    assert host.settled() == 2 * SIZE
    assert used() - before <= 2 * SIZE + 2 * SUMS
    host.request(lambda: host.load("clip"), lambda: host.load("unet"))
    for name in ("clip", "unet"):
        assert host.placement.arrival(host.models[name].model).early == SIZE


@pytest.mark.parametrize("why", ["no request", "switched off"])
def test_nothing_that_is_announced_comes(host_with: Any, why: str) -> None:
    host = host_with()
    if why == "switched off":
        host.switch_off()
        host.bring_back(lambda: host.overlap.comes(host.engine))
    else:
        host.overlap.comes(host.engine)
    assert host.coming == 0


@pytest.mark.parametrize("who", ["the end", "no image", "everything goes", "fails", "another thread builds"])
def test_what_came_from_the_beginning_and_was_not_asked_for_goes(host_with: Any, who: str) -> None:
    host = host_with()
    before = used()
    if who == "fails":
        with pytest.raises(RuntimeError, match="on purpose"):
            host.build(_fail)
    elif who == "another thread builds":
        host.built = []
        host.sd_models.forge_loader()  # no request of this thread
    else:
        host.build()
        assert host.settled() == 2 * SIZE
        if who == "the end":
            host.request()
        elif who == "everything goes":
            host.manager.free_memory(1e30, CARD, (), True)
        else:
            host.processing.manage_model_and_prompt_cache(lambda: None)  # the next request
    assert host.coming == 0
    assert used() == before


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_before_any_other_load_it_goes_as_that_looks_at_what_is_free(
    host_with: Any, begin: Callable[..., None]
) -> None:
    host = host_with()
    free = host.total - used()
    begin(host)
    assert host.settled() == 2 * SIZE
    host.request(lambda: host.load("other"), lambda: host.load("clip"), lambda: host.load("unet"))
    assert host.seen[0] == free
    early = {name: host.placement.arrival(host.models[name].model).early for name in ("clip", "unet")}
    assert early == {"clip": 0, "unet": SIZE}  # it is on its way from the end of the other load on


def test_text_encoders_that_nobody_asks_for_go_when_the_transformer_is_asked_for(host_with: Any) -> None:
    host = host_with()
    host.bring_back()
    assert host.settled() == 2 * SIZE
    during: list[int] = []
    host.request(lambda: host.load("unet"), lambda: during.append(host.coming), lambda: during.append(used()))
    assert during[0] == 0
    assert host.placement.arrival(host.models["unet"].model).early == SIZE
    assert host.residency("clip").resident == ()


class Own(ForgeLoads):
    """Some models are moved by what the host has of its own."""

    def is_moved(self, patcher: Any) -> bool:
        return patcher.model is not None and not hasattr(patcher, "own")


@pytest.mark.parametrize("begin", BEGINNINGS)
@pytest.mark.parametrize("why", ["no text encoders", "no transformer", "the host's own"])
def test_of_an_engine_that_is_otherwise_nothing_stays_on_its_way(
    host_with: Any, begin: Callable[..., None], why: str
) -> None:
    host = host_with(loads=Own())
    before = used()
    if why == "the host's own":
        host.models["unet"].own = True
    else:
        host.models["clip" if why == "no text encoders" else "unet"] = SimpleNamespace(model=None)
    begin(host)
    assert host.settled() == 0
    end = time.monotonic() + PATIENCE_S
    while used() != before and time.monotonic() < end:  # a thread that was about to begin the second one ends
        time.sleep(0.001)
    assert used() == before


class Casts(ForgeLoads):
    """A host that builds text encoders in another dtype."""

    def stays(self, part: Any, guess: Any, *, text: bool) -> bool:
        return not text


def test_what_is_built_otherwise_does_not_come_and_the_other_one_does(host_with: Any) -> None:
    host = host_with(loads=Casts())
    host.build()
    assert host.settled() == SIZE
    host.request(lambda: host.load("clip"), lambda: host.load("unet"))
    early = {name: host.placement.arrival(host.models[name].model).early for name in ("clip", "unet")}
    assert early == {"clip": 0, "unet": SIZE}
    assert host.overlap._in_vain == set()


def _fail() -> None:
    raise RuntimeError("on purpose")


def test_what_the_host_wants_otherwise_comes_in_vain_once(host_with: Any) -> None:
    host = host_with()
    for name in ("clip", "unet"):
        host.models[name] = host._model(host.folder / f"{name}-cast.safetensors")
        host.placement._residencies[host.models[name].model] = residency_of(
            host.models[name].model, host.registry
        )
    begun: list[int] = []
    for _ in range(2):
        host.build(lambda: begun.append(host.settled()))
        host.request(lambda: host.load("clip"), lambda: host.load("unet"))
        host.residency("clip").unload()
        host.residency("unet").unload()
        host.manager.current_loaded_models.clear()
        host.data.sd_model = None
    assert begun == [2 * SIZE, 0]
