"""What a started WebUI tells, and what may be done to it while nobody makes an image."""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from flux_speedup import ram
from flux_speedup.hosts.common.forms import as_it_is
from flux_speedup.hosts.common.inside import Inside, Refused
from flux_speedup.hosts.common.keeping import KeepingInside
from flux_speedup.weights.checkpoints import Checkpoints, Key, Limits
from flux_speedup.weights.files.mapping import MAPPINGS
from tests.unit.weights.weight_files import write_weights
from tests.waiting import PATIENCE_S

META = torch.device("meta")  # a device that is not the CPU, on every machine
WHY = "an image is being made"


class Options:
    def __init__(self) -> None:
        self.data: dict[str, Any] = {"tier": "on"}
        self.defaults = {"tier": "as configured", "streams": "as configured", "restricted": "x"}
        self.frozen = False
        self.saved: list[tuple[str, dict[str, Any]]] = []
        self.sd_model_checkpoint = "flux"

    def __getattr__(self, key: str) -> Any:
        return self.data.get(key, self.defaults[key])

    def set(self, key: str, value: Any) -> bool:
        assert not self.frozen, "changing settings is disabled"
        if key == "restricted":
            return False
        self.data[key] = value
        return True

    def save(self, file: str) -> None:
        self.saved.append((file, dict(self.data)))


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = ModuleType("modules.shared")
    module.opts, module.config_filename = Options(), "config.json"
    module.cmd_opts = argparse.Namespace(disable_extension_access=False)
    module.state = SimpleNamespace(job="")
    monkeypatch.setitem(sys.modules, "modules.shared", module)
    return module


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> threading.Lock:
    module: Any = ModuleType("modules.call_queue")
    module.queue_lock = threading.Lock()
    monkeypatch.setitem(sys.modules, "modules.call_queue", module)
    found: threading.Lock = module.queue_lock
    return found


def test_busy_is_who_holds_the_queue(shared: Any, lock: threading.Lock) -> None:
    inside = Inside()
    assert not inside.busy()
    assert lock.acquire(False), "asking must not keep it"
    assert inside.busy()
    with pytest.raises(Refused, match=WHY), inside.nobody_else():
        pass
    lock.release()
    with inside.nobody_else():
        assert inside.busy()
    assert not lock.locked()


def test_what_waits_for_an_image_is_done_after_it_and_alone(shared: Any, lock: threading.Lock) -> None:
    inside, done = Inside(), []
    lock.acquire()
    waiting = threading.Thread(target=lambda: inside.wait_and(lambda: done.append(inside.busy())))
    waiting.start()
    waiting.join(0.2)
    assert (waiting.is_alive(), done) == (True, [])
    lock.release()
    waiting.join(PATIENCE_S)
    assert done == [True], "an image that is asked for meanwhile waits"
    assert not lock.locked()


def test_without_a_queue_the_job_says_it(shared: Any) -> None:
    inside = Inside()
    with inside.nobody_else():
        pass
    shared.state.job = "task(x)"
    assert inside.busy()
    with pytest.raises(Refused, match=WHY), inside.nobody_else():
        pass


def test_options_are_set_and_saved(shared: Any) -> None:
    Inside().set_options({"tier": "large", "streams": "off"})
    assert shared.opts.saved == [("config.json", {"tier": "large", "streams": "off"})]


def test_options_that_cannot_be_set_stay_all_of_them(shared: Any) -> None:
    with pytest.raises(Refused, match="restricted in this WebUI: restricted"):
        Inside().set_options({"tier": "large", "streams": "off", "restricted": "y"})
    shared.opts.frozen = True
    with pytest.raises(Refused, match="changing settings is disabled"):
        Inside().set_options({"tier": "large"})
    assert (shared.opts.data, shared.opts.saved) == ({"tier": "on"}, [])


def test_extension_access_is_the_webuis_own(shared: Any) -> None:
    assert Inside().writes_refused() is None
    shared.cmd_opts.disable_extension_access = True
    assert "extension access is disabled" in str(Inside().writes_refused())


def test_the_selected_file_and_the_model_in_use(
    shared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = Inside()
    assert inside.selected_file() is None
    assert inside.models() == []
    file = tmp_path / "flux.safetensors"
    file.write_bytes(b"12345")
    models: Any = ModuleType("modules.sd_models")
    info = SimpleNamespace(filename=str(file))
    models.checkpoint_aliases = {"flux": info}
    models.model_data = SimpleNamespace(sd_model=SimpleNamespace(sd_checkpoint_info=info))
    monkeypatch.setitem(sys.modules, "modules.sd_models", models)
    assert inside.selected_file() == file
    models.checkpoints_list = {"flux [123]": info}
    assert inside.checkpoints() == [(file, ("flux [123]", "flux"))]
    assert inside.in_memory() == {file: "card"}, "no GPU: it is where it computes"
    inside.device = lambda: META  # type: ignore[method-assign]
    assert inside.in_memory() == {file: "kept"}, "nothing of it is on the device"
    (model,) = inside.models()
    assert (model.name, model.where, model.file_bytes) == ("flux.safetensors", "in use", 5)
    for act in (inside.free_vram, lambda: inside.drop("in use")):
        with pytest.raises(Refused):
            act()


# Forge.


class Manager:
    cpu = torch.device("cpu")

    def __init__(self) -> None:
        self.current_loaded_models: list[Any] = []

    def get_torch_device(self) -> torch.device:
        return META

    def unload_all_models(self) -> None:
        self.current_loaded_models.clear()

    def put(self, kind: str, size: int, device: torch.device = META) -> torch.nn.Module:
        module = type(kind, (torch.nn.Module,), {})()
        module.weight = torch.nn.Parameter(torch.empty(size, dtype=torch.uint8, device=device), False)
        self.current_loaded_models.append(SimpleNamespace(model=SimpleNamespace(model=module), device=device))
        return module


def built(name: str, *modules: torch.nn.Module) -> Any:
    key = Key(((name, None),), ())
    return SimpleNamespace(key=key, modules=modules, file_bytes=24, ram=3)


def test_vram_is_told_by_component_and_freed(lock: threading.Lock) -> None:
    manager = Manager()
    manager.put("KModel", 20)
    manager.put("JointTextEncoder", 5)
    manager.put("JointTextEncoder", 4)
    manager.put("IntegratedAutoencoderKL", 9, Manager.cpu)
    inside = KeepingInside(manager, lambda: None, as_it_is)
    assert inside.vram_by_model() == (("transformer", 20), ("text encoders", 9))
    lock.acquire()
    with pytest.raises(Refused, match=WHY):
        inside.free_vram()
    lock.release()
    assert inside.free_vram() == "29 bytes left the device: transformer, text encoders"
    assert inside.free_vram() == "no model was on the device"


def test_kept_models_are_listed_and_dropped(lock: threading.Lock) -> None:
    manager = Manager()
    module = manager.put("KModel", 20)
    manager.put("KModel", 7)
    kept: Checkpoints[Any] = Checkpoints(Limits(4, 100))
    old = built("/models/old.safetensors")
    kept.put(old.key, old, 3)
    keeper: Any = SimpleNamespace(current=built("/models/new.safetensors", module), kept=kept)
    inside = KeepingInside(manager, lambda: keeper, as_it_is)
    in_use, other = inside.models()
    assert (in_use.name, in_use.where, in_use.device_bytes) == ("new.safetensors", "in use", 20)
    assert (other.name, other.where, other.device_bytes) == ("old.safetensors", "kept", 0)
    assert (other.file_bytes, other.ram_bytes) == (24, 3)
    assert in_use.key != other.key
    assert inside.in_memory() == {Path("/models/old.safetensors"): "kept"}
    lock.acquire()
    with pytest.raises(Refused, match=WHY):
        inside.drop(other.key)
    lock.release()
    assert inside.drop(other.key).startswith("old.safetensors is forgotten")
    assert kept.entries() == []
    with pytest.raises(Refused, match="in use"):
        inside.drop(in_use.key)
    with pytest.raises(Refused, match="no such model"):
        inside.drop(other.key)


def test_weights_in_ram_are_counted_without_a_model() -> None:
    page_cache, pinned = KeepingInside(Manager(), lambda: None, as_it_is).weights_in_ram()
    assert page_cache is None or page_cache >= 0
    hold = ram.HELD.note(1000)
    assert KeepingInside(Manager(), lambda: None, as_it_is).weights_in_ram()[1] == (pinned or 0) + 1000
    hold.release()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what of a file is in RAM")
def test_two_builds_of_one_file_share_its_pages(tmp_path: Path) -> None:
    file = write_weights(tmp_path / "a.safetensors", {"weight": torch.zeros(300_000)})
    inside = KeepingInside(Manager(), lambda: None, as_it_is)
    before = inside.weights_in_ram()[0] or 0
    first = MAPPINGS.open(file).views()
    once = inside.weights_in_ram()[0]
    second = MAPPINGS.open(file).views()
    assert first["weight"].data_ptr() != second["weight"].data_ptr()
    assert once == inside.weights_in_ram()[0]
    assert before < (once or 0) <= before + file.stat().st_size


def test_a_stand_in_for_a_gpu_tells_what_its_manager_believes(lock: threading.Lock) -> None:
    manager: Any = Manager()
    manager.simulated, manager.total_vram, manager.get_free_memory = True, 2, lambda: 1 << 20
    manager.put("KModel", 20)
    manager.current_loaded_models[0].model.size = 24
    inside = KeepingInside(manager, lambda: None, as_it_is)
    assert inside.vram() == (1 << 20, 2 << 20)
    assert inside.vram_by_model() == (("transformer", 24),)
