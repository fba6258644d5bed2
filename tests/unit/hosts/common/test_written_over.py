"""Before a request a model whose file was written over is built anew; after it no image of the rest is shown."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from flux_speedup.hosts.common.written_over import PROCESSING, SD_MODELS, WrittenOver
from flux_speedup.hosts.reforge.written_over import ReForgeWrittenOver
from flux_speedup.weights.errors import WeightsError
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.files.span import find
from flux_speedup.weights.residency.placement import Placement
from flux_speedup.weights.transfer.direct import Direct
from flux_speedup.weights.transfer.item import Item
from tests.unit.weights.registering import Machine, ledger
from tests.unit.weights.weight_files import module_of, write_weights

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there a mapped file cannot be cut short")


class Host:
    """What is asked of Forge: a model of one file, its loading parameters, and what was called."""

    kind = WrittenOver

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.path = write_weights(folder / "a.safetensors", {"a": torch.arange(5000.0)})
        self.sound = self.path.read_bytes()
        self.registry = Registry(leases=False)
        self.direct = Direct(self.registry, registrar=Machine().registrar, held=ledger(), settle=lambda: None)
        self.placement = Placement(self.registry, direct=self.direct)
        self.model = module_of(self.registry.open(self.path).views())
        patcher = SimpleNamespace(model=self.model)
        parameters = {"checkpoint_info": SimpleNamespace(filename=str(self.path)), "additional_modules": []}
        engine = SimpleNamespace(forge_objects_original=SimpleNamespace(unet=patcher))
        self.data = SimpleNamespace(
            sd_model=engine, forge_loading_parameters=parameters, forge_hash=str(parameters)
        )
        self.calls: list[str] = []
        self.modules = {name: ModuleType(name) for name in (SD_MODELS, PROCESSING)}
        self.modules[SD_MODELS].model_data = self.data  # type: ignore[attr-defined]
        for name, module in self.modules.items():
            module.forge_model_reload = self._reload  # type: ignore[attr-defined]
            module.reload_model_weights = self._reload  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, name, module)
        self.during: Callable[[], object] = lambda: None
        self.modules[PROCESSING].process_images_inner = self._process  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "modules", ModuleType("modules"))
        self.undo = self.kind(self.placement)._begin()

    def _reload(self) -> str:
        self.calls.append("kept" if self.data.forge_hash else "built")
        return "model"

    def _process(self) -> str:
        self.during()
        return "image"

    def reload(self) -> Any:
        return self.modules[PROCESSING].forge_model_reload()  # type: ignore[attr-defined]

    def process(self) -> Any:
        return self.modules[PROCESSING].process_images_inner()  # type: ignore[attr-defined]

    def write_over(self, content: bytes) -> None:
        with self.path.open("r+b") as file:
            file.truncate(100)
            file.write(content)
            file.truncate()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    return Host(monkeypatch, tmp_path)


def test_nothing_happens_where_no_file_was_written_over(host: Host) -> None:
    assert (host.reload(), host.process()) == ("model", "image")
    assert host.calls == ["kept"]


def test_a_model_whose_old_bytes_are_gone_is_built_anew(host: Host) -> None:
    host.write_over(host.sound[::1])
    assert host.reload() == "model"
    assert host.calls == ["built"]


def test_a_file_that_cannot_be_read_is_named_and_the_host_is_not_asked(host: Host) -> None:
    host.write_over(b"half a download")
    with pytest.raises(WeightsError, match=r"a\.safetensors") as caught:
        host.reload()
    assert getattr(caught.value, "meant_for_the_caller", False)
    assert host.calls == []
    host.write_over(host.sound)
    assert host.reload() == "model"
    assert host.calls == ["built"]


def test_another_checkpoint_is_the_hosts_to_load(host: Host) -> None:
    host.write_over(b"half a download")
    host.data.forge_hash = "of another one"
    assert host.reload() == "model"
    assert host.calls == ["kept"]


def test_a_model_that_is_on_the_card_goes_on(host: Host) -> None:
    home = host.model.a.data
    host.model.a.data = home.clone()
    host.write_over(host.sound)
    assert (host.reload(), host.process()) == ("model", "image")
    assert host.calls == ["kept"]
    host.model.a.data = home
    assert host.reload() == "model"
    assert host.calls == ["kept", "built"]


def test_clean_weights_behind_merged_ones_count(host: Host) -> None:
    clean = host.model.a
    host.model.a = torch.nn.Parameter(torch.zeros(5000), requires_grad=False)
    host.model.lora_loader = SimpleNamespace(backup={"a": clean})
    host.write_over(host.sound)
    host.reload()
    assert host.calls == ["built"]


def test_clean_weights_that_a_patcher_keeps_count(host: Host) -> None:
    """As Forge Neo and reForge have them."""
    clean = host.model.a
    host.model.a = torch.nn.Parameter(torch.zeros(5000), requires_grad=False)
    host.data.sd_model.forge_objects_original.unet.backup = {"a": SimpleNamespace(weight=clean.data)}
    host.write_over(host.sound)
    host.reload()
    assert host.calls == ["built"]


def test_what_stands_for_a_model_that_was_not_built_is_none(host: Host) -> None:
    host.write_over(host.sound)
    host.data.sd_model = SimpleNamespace(cond_stage_model=None)
    assert (host.reload(), host.process()) == ("model", "image")


def test_no_image_is_shown_that_was_made_of_what_was_left(host: Host) -> None:
    host.during = lambda: host.write_over(host.sound)
    with pytest.raises(WeightsError, match="not shown"):
        host.process()


def test_no_image_is_shown_for_which_the_card_read_pages_that_were_written(host: Host) -> None:
    view = host.registry.open(host.path).views()
    mapping = host.registry.live()[0]
    span = find(view["a"], host.registry)
    assert span is not None
    assert host.direct.hold(mapping)
    with host.direct.lend([Item(span, span.dtype, span.shape)]):
        host.model.a.data = host.model.a.data.clone()  # the card has it
        assert host.process() == "image"
        host.during = lambda: host.write_over(host.sound)
        with pytest.raises(WeightsError, match="while the card read it"):
            host.process()
    assert not view["a"].any()
    assert host.reload() == "model"
    assert host.calls == ["built"]
    host.during = lambda: None
    assert host.process() == "image"
    host.undo()


class ReForge(Host):
    """It reloads by the file, and anew where it is told to."""

    kind = ReForgeWrittenOver

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        super().__init__(monkeypatch, folder)
        self.data.sd_model.filename = str(self.path)
        self.chosen = SimpleNamespace(filename=str(self.path))
        models: Any = self.modules[SD_MODELS]
        models.select_checkpoint = lambda: self.chosen
        monkeypatch.setattr(sys.modules["modules"], "sd_models", models, raising=False)

    def _reload(self, sd_model: Any = None, info: Any = None, forced_reload: bool = False) -> str:
        self.calls.append("built" if forced_reload else "kept")
        return "model"

    def reload(self) -> Any:
        return self.modules[SD_MODELS].reload_model_weights()  # type: ignore[attr-defined]


def test_reforge_builds_a_model_anew_too_and_only_that_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = ReForge(monkeypatch, tmp_path)
    assert (host.reload(), host.process()) == ("model", "image")
    assert host.calls == ["kept"]
    host.during = lambda: host.write_over(b"half a download")
    with pytest.raises(WeightsError, match="not shown"):
        host.process()
    with pytest.raises(WeightsError, match=r"a\.safetensors"):
        host.reload()
    host.chosen = SimpleNamespace(filename="another one")
    assert host.reload() == "model"
    assert host.calls == ["kept", "kept"]
    host.write_over(host.sound)
    host.chosen = SimpleNamespace(filename=str(host.path))
    assert host.reload() == "model"
    assert host.calls == ["kept", "kept", "built"]
    host.undo()
