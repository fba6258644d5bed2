"""Before a request a model whose file was written over is built anew; after it no image of the rest is shown."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from flux_speedup.hosts.forge.written_over import PROCESSING, SD_MODELS, WrittenOver
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

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, **more: Any) -> None:
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
            monkeypatch.setitem(sys.modules, name, module)
        self.during: Callable[[], object] = lambda: None
        self.modules[PROCESSING].process_images_inner = self._process  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "modules", ModuleType("modules"))
        self.undo = WrittenOver(self.placement)._begin()

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
