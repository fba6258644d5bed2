"""What Forge Neo builds of a file's tensors as they are, and what it moves as a whole."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from flux_speedup.hosts.neo.overlap import PATCHER, UTILITIES, NeoLoads
from flux_speedup.hosts.neo.webui import MANAGER

States = Enum("States", "LOW_VRAM NORMAL_VRAM HIGH_VRAM SHARED")
GUESS = SimpleNamespace(supported_inference_dtypes=[torch.bfloat16, torch.float16])


class Patcher:
    def load(self) -> None: ...


class Nunchaku(Patcher):
    def load(self) -> None: ...


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of a host that computes text in fp16, and images in the first dtype that a model supports."""
    found: Any = ModuleType(MANAGER)
    found.VRAMState, found.vram_state, found.DISABLE_SMART_MEMORY = States, States.NORMAL_VRAM, False
    found.get_torch_device = lambda: torch.device("cuda")
    found.text_encoder_dtype = lambda: torch.float16
    found.unet_dtype = lambda device, model_params, supported_dtypes, weight_dtype: supported_dtypes[0]
    patchers: Any = ModuleType(PATCHER)
    patchers.ModelPatcher = Patcher
    utilities: Any = ModuleType(UTILITIES)
    utilities.weight_dtype = _weight_dtype
    for module in (found, patchers, utilities):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return found


def _weight_dtype(part: Mapping[str, torch.Tensor]) -> Any:
    (tensor,) = part.values()
    return "gguf" if hasattr(tensor, "gguf_cls") else tensor.dtype


def part(dtype: torch.dtype) -> dict[str, Any]:
    return {"weight": torch.zeros(2, dtype=dtype)}


@pytest.mark.usefixtures("manager")
@pytest.mark.parametrize(
    ("dtype", "text", "stays"),
    [
        (torch.float16, True, True),
        (torch.bfloat16, True, False),
        (torch.float32, True, False),
        (torch.float8_e4m3fn, True, True),
        (torch.bfloat16, False, True),
        (torch.float16, False, False),
        (torch.float8_e4m3fn, False, True),
    ],
)
def test_what_the_host_would_cast_does_not_come(dtype: torch.dtype, text: bool, stays: bool) -> None:
    assert NeoLoads().stays(part(dtype), GUESS, text=text) is stays


@pytest.mark.usefixtures("manager")
def test_nor_does_what_is_made_into_something_else() -> None:
    packed = part(torch.uint8)
    packed["weight"].gguf_cls = object
    for found in (packed, {}, {"transformer.filename": "t5"}):
        assert not NeoLoads().stays(found, GUESS, text=True)
    assert not NeoLoads().stays(
        part(torch.bfloat16), SimpleNamespace(**vars(GUESS), nunchaku=True), text=False
    )


def test_models_are_whole_where_the_manager_keeps_what_it_has(manager: Any) -> None:
    assert NeoLoads().whole()
    manager.DISABLE_SMART_MEMORY = True
    assert not NeoLoads().whole()
    manager.DISABLE_SMART_MEMORY = False
    manager.vram_state = States.LOW_VRAM
    assert not NeoLoads().whole()


@pytest.mark.usefixtures("manager")
def test_whose_patcher_moves_it_by_itself_is_not_ours() -> None:
    assert NeoLoads().is_moved(Patcher())
    assert not NeoLoads().is_moved(Nunchaku())


def test_of_a_model_that_was_never_loaded_nothing_is_there() -> None:
    model: Any = torch.nn.Linear(2, 2)
    assert not NeoLoads().is_loaded(model)
    model.model_loaded_weight_memory = 1
    assert NeoLoads().is_loaded(model)
