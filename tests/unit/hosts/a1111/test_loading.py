"""A1111's switch with the model where it is: on a stand-in with its order of steps and real layers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors.torch import save_file

from flux_speedup.hosts.a1111.loading import MARGIN, Loading
from flux_speedup.patching.change import Undo, apply_all

CARD = torch.device("cpu", 0)
PLENTY = 100 * MARGIN


class Host:
    """`reload_model_weights` as it goes: off the card, the state dict into it, back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.infos = {name: SimpleNamespace(filename=str(folder / f"{name}.safetensors")) for name in "ab"}
        for number, info in enumerate(self.infos.values()):
            tensors = {"weight": torch.full((4, 8), float(number)).half(), "bias": torch.zeros(4).half()}
            save_file(tensors, info.filename)
        self.sent: list[Any] = []
        self.read_to: list[Any] = []
        self.model: Any = torch.nn.Linear(8, 4, dtype=torch.float16)
        self.model.lowvram = False
        self.opts = SimpleNamespace(sd_model_checkpoint="b", sd_checkpoints_limit=1)
        models: Any = ModuleType("modules.sd_models")
        models.model_data = SimpleNamespace(sd_model=self.model, loaded_sd_models=[self.model])
        models.checkpoint_aliases = self.infos
        models.check_fp8 = lambda _model: False
        models.read_state_dict = self._read
        models.send_model_to_cpu = self.sent.append
        models.reload_model_weights = self._reload
        devices: Any = ModuleType("modules.devices")
        devices.torch_gc, devices.fp8 = lambda: None, False
        shared: Any = ModuleType("modules.shared")
        shared.opts = self.opts
        self.models, self.devices = models, devices
        for module in (models, devices, shared):
            monkeypatch.setitem(sys.modules, module.__name__, module)

    def _read(self, file: str) -> Any:
        return safetensors.torch.load_file(file, device="cpu:0")

    def _reload(self, sd_model: Any = None, info: Any = None, forced_reload: bool = False) -> Any:
        model = sd_model or self.models.model_data.sd_model
        self.models.send_model_to_cpu(model)
        found = self.models.read_state_dict((info or self.infos[self.opts.sd_model_checkpoint]).filename)
        model.load_state_dict(found)
        return model


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    return Host(monkeypatch, tmp_path)


@pytest.fixture
def ours() -> Iterator[Callable[..., None]]:
    undo: list[Undo] = []
    yield lambda free=PLENTY: undo.append(apply_all(Loading(lambda _device: free).changes()))
    for each in undo:
        each()


def test_the_model_stays_where_it_is_and_gets_the_other_ones_weights(
    host: Host, ours: Callable[..., None]
) -> None:
    ours()
    host.models.reload_model_weights()
    assert host.sent == []
    assert host.model.weight.eq(1).all()
    host.models.reload_model_weights(info=host.infos["a"])
    assert host.model.weight.eq(0).all()
    assert host.sent == []
    host.models.send_model_to_cpu(host.model)
    assert host.sent == [host.model], "unloaded by hand it goes as always"


@pytest.mark.parametrize("why", ["lowvram", "several are kept", "another is there", "fp8", "no room"])
def test_where_it_cannot_stay_the_webui_does_it(why: str, host: Host, ours: Callable[..., None]) -> None:
    host.model.lowvram = why == "lowvram"
    host.opts.sd_checkpoints_limit = 2 if why == "several are kept" else 1
    host.devices.fp8 = why == "fp8"
    if why == "another is there":
        host.models.model_data.loaded_sd_models.append(torch.nn.Linear(8, 4))
    ours(MARGIN if why == "no room" else PLENTY)
    host.models.reload_model_weights()
    assert host.sent == [host.model]
    assert host.model.weight.eq(1).all()


def test_a_file_that_is_none_of_ours_is_read_by_the_webui(
    host: Host, ours: Callable[..., None], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Path(host.infos["b"].filename)
    broken.write_bytes(broken.read_bytes()[:-3])
    ours()
    with pytest.raises(safetensors.SafetensorError):
        host.models.reload_model_weights()
    assert "falling back to the WebUI's loader" in caplog.text


def test_what_others_read_is_theirs(host: Host, ours: Callable[..., None]) -> None:
    ours()
    found = safetensors.torch.load_file(host.infos["a"].filename)
    assert found["weight"].device == torch.device("cpu")
