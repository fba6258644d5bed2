"""reForge's reading: views of the file while it loads a checkpoint, its own everywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors.torch import save_file

from flux_speedup.hosts.comfy.names import Names
from flux_speedup.hosts.reforge.files import ReForgeFiles
from flux_speedup.patching.change import apply_all
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.files.span import find

CARD, HOME = torch.device("cpu", 0), torch.device("cpu")
NAMES = Names(
    manager="host.manager",
    patcher="host.patcher",
    build=("host.models", "load_model"),
    reading="host.utils",
    operations="host.operations",
    layers=(),
    initial_device="unet_inital_load_device",
)


class Host:
    """`load_model` reads the checkpoint onto the card, asks where to build, and reads the text encoder again."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.maps_files = True
        self.manager = self._add(patch, "host.manager")
        self.manager.unet_inital_load_device = lambda *_: CARD
        self.manager.text_encoder_initial_device = lambda load, offload, size=0: load
        self.utils = self._add(patch, "host.utils")
        self.utils.load_torch_file = self._load_torch_file
        self.models = self._add(patch, "host.models")
        self.models.load_model = self._load_model
        self._add(patch, "host.operations")

    @staticmethod
    def _add(patch: pytest.MonkeyPatch, name: str) -> Any:
        made: Any = ModuleType(name)
        patch.setitem(sys.modules, name, made)
        return made

    def _load_torch_file(self, ckpt: str, return_metadata: bool = False) -> Any:
        with safetensors.safe_open(ckpt, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        return (found, None) if return_metadata else found

    def _load_model(self, file: str) -> Any:
        if self.maps_files:
            whole = safetensors.torch.load_file(file, device="cpu")
        else:
            whole = safetensors.torch.load(Path(file).read_bytes())
        places = (
            self.manager.unet_inital_load_device(1, torch.float16),
            self.manager.text_encoder_initial_device(CARD, HOME, 1),
        )
        text, _ = self.utils.load_torch_file(file, return_metadata=True)
        return whole, text, places


@pytest.fixture
def registry() -> Registry:
    return Registry(leases=False)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, registry: Registry) -> Iterator[Host]:
    made = Host(monkeypatch)
    undo = apply_all(ReForgeFiles(NAMES, registry).changes())
    yield made
    undo()


def test_a_checkpoint_and_its_text_encoder_are_views_and_everything_is_built_at_home(
    host: Host, registry: Registry, tmp_path: Path
) -> None:
    file = str(tmp_path / "a.safetensors")
    save_file({"weight": torch.arange(32.0)}, file)
    whole, text, places = host.models.load_model(file)
    for found in (whole, text):
        assert find(found["weight"], registry) is not None
        assert torch.equal(found["weight"], torch.arange(32.0))
    assert [str(place) for place in places] == ["cpu", "cpu"]


def test_outside_of_a_load_and_for_other_files_the_webui_reads(
    host: Host, registry: Registry, tmp_path: Path
) -> None:
    lora = str(tmp_path / "lora.safetensors")
    save_file({"weight": torch.ones(4)}, lora)
    for found in (host.utils.load_torch_file(lora), safetensors.torch.load_file(lora)):
        assert find(found["weight"], registry) is None
    odd = str(tmp_path / "a.bin")
    save_file({"weight": torch.ones(4)}, odd)
    whole, _, places = host.models.load_model(odd)
    assert find(whole["weight"], registry) is None
    assert places == (CARD, CARD)


def test_a_checkpoint_that_the_user_does_not_want_mapped_is_not_mapped_for_its_text_encoder(
    host: Host, registry: Registry, tmp_path: Path
) -> None:
    file = str(tmp_path / "a.safetensors")
    save_file({"weight": torch.ones(4)}, file)
    host.maps_files = False
    _, text, places = host.models.load_model(file)
    assert find(text["weight"], registry) is None
    assert places == (CARD, CARD)
