"""Free VRAM in A1111: by its own functions, and the model is back for the next image."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from flux_speedup.hosts.a1111.webui import A1111
from flux_speedup.hosts.common.inside import Refused


class Model:
    sd_checkpoint_info = SimpleNamespace(filename="/models/a.safetensors")

    def __init__(self) -> None:
        self.place = "cuda"

    def parameters(self) -> Iterator[Any]:
        yield SimpleNamespace(
            nelement=lambda: 500_000_000, element_size=lambda: 2, device=SimpleNamespace(type=self.place)
        )


class Lock:
    def __init__(self) -> None:
        self.held = False

    def acquire(self, _: bool) -> bool:
        before, self.held = self.held, True
        return not before

    def release(self) -> None:
        self.held = False


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Any:
    found: Any = ModuleType("modules.sd_models")
    found.model_data = SimpleNamespace(sd_model=Model(), loaded_sd_models=[])
    found.model_data.loaded_sd_models += [found.model_data.sd_model, Model()]
    found.send_model_to_cpu = lambda model: setattr(model, "place", "cpu")
    found.send_model_to_device = lambda model: setattr(model, "place", "cuda")
    processing: Any = ModuleType("modules.processing")
    processing.process_images_inner = lambda p: found.model_data.sd_model.place
    queue: Any = ModuleType("modules.call_queue")
    queue.queue_lock = Lock()
    for module in (found, processing, queue):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return found


def test_everything_leaves_the_device_and_the_next_image_finds_its_model_there(models: Any) -> None:
    processing: Any = sys.modules["modules.processing"]
    original = processing.process_images_inner
    inside = A1111().inside()
    said = inside.free_vram()
    assert said == "2.0 GB left the device: a.safetensors, a.safetensors"
    assert [model.place for model in models.model_data.loaded_sd_models] == ["cpu", "cpu"]
    assert inside.free_vram() == "no model was on the device"
    assert processing.process_images_inner("p") == "cuda"
    # The other one comes when it is chosen, and nothing of ours stays.
    assert models.model_data.loaded_sd_models[1].place == "cpu"
    assert processing.process_images_inner is original


def test_models_in_ram_beside_the_one_in_use_are_kept(models: Any) -> None:
    other = models.model_data.loaded_sd_models[1]
    other.sd_checkpoint_info = SimpleNamespace(filename="/models/b.safetensors")
    where = A1111().inside().in_memory()
    assert where == {Path("/models/a.safetensors"): "card", Path("/models/b.safetensors"): "kept"}


def test_what_a_next_image_could_not_bring_back_stays(models: Any) -> None:
    del sys.modules["modules.processing"].process_images_inner  # type: ignore[attr-defined]
    with pytest.raises(Refused):
        A1111().inside().free_vram()
    assert models.model_data.sd_model.place == "cuda"
    del models.send_model_to_device
    with pytest.raises(Refused):
        A1111().inside().free_vram()


def test_while_an_image_is_made_nothing_is_taken(models: Any) -> None:
    sys.modules["modules.call_queue"].queue_lock.held = True  # type: ignore[attr-defined]
    with pytest.raises(Refused):
        A1111().inside().free_vram()
    assert models.model_data.sd_model.place == "cuda"
