"""Forge's own memory manager, patcher and LoRA loader in this process, on the second device, with our weights room.

Runs in Forge's environment, which has no pytest: `test_weights_on_forge.py` starts it and judges what it prints.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file

from tests.second_device import CARD, taken, used

CPU = torch.device("cpu")
LAYERS, WIDTH = 6, 64
MODULES = (
    "backend.memory_management",
    "backend.patcher.base",
    "backend.patcher.lora",
    "backend.operations",
    "backend.operations_gguf",
    "backend.stream",
    "backend.operations_bnb",
)


def start() -> Any:
    """Forge's memory manager, believing in a card that is the second device. `manager.room`: its free bytes."""
    sys.argv = [sys.argv[0], "--always-cpu"]
    from backend import memory_management as manager

    manager.room = 1 << 30
    manager.get_torch_device = lambda: CARD
    manager.vram_state = manager.VRAMState.NORMAL_VRAM
    manager.current_inference_memory = 0

    def get_free_memory(dev: Any = None, torch_free_too: bool = False) -> Any:
        free = manager.room - (taken() if dev == CARD else 0)
        return (free, free) if torch_free_too else free

    manager.get_free_memory = get_free_memory
    manager.soft_empty_cache = lambda force=False: None
    return manager


def attach(streaming: Any = None) -> Callable[[], None]:
    """Our functions in the place of the manager's, the patcher's and the LoRA loader's; returns the undo.

    `streaming`: of ours, too; on the same placement.
    """
    from flux_speedup.hosts.forge.weights import Attachment
    from flux_speedup.patching.change import apply_all
    from flux_speedup.weights.files.mapping import MAPPINGS
    from flux_speedup.weights.residency.placement import Placement
    from flux_speedup.weights.transfer.lane import PlainLane

    placement = Placement(MAPPINGS, lanes=PlainLane)
    if streaming is not None:
        placement = streaming.models._placement
    attachment = Attachment(placement, kinds={"hpu"})
    there = [module for module in MODULES if module in sys.modules]
    changes = [*attachment.changes(), *(streaming.changes() if streaming is not None else ())]
    return apply_all(change for change in changes if change.module in there)


class Scene:
    """A model of six matrices over a file of its own, as Forge builds one, and what may be done with it."""

    form: str | None = None

    def __init__(self, manager: Any, folder: Path) -> None:
        from backend import operations
        from backend.patcher.base import ModelPatcher

        from flux_speedup.weights.files.mapping import MAPPINGS

        self.manager = manager
        manager.room = 1 << 30
        random = torch.Generator().manual_seed(7)
        used()  # there is such a device from here on
        drawn = {
            f"layers.{n}.weight": torch.randn(WIDTH, WIDTH, generator=random).bfloat16()
            for n in range(LAYERS)
        }
        self.path = folder / "weights.safetensors"
        save_file(self.in_file(drawn), self.path)
        self.undo = attach()
        self.model = torch.nn.Module()
        kind = {
            "device": CPU,
            "dtype": torch.bfloat16,
            "manual_cast_enabled": False,
            "bnb_dtype": self.form,
        }
        with torch.inference_mode(), operations.using_forge_operations(**kind):
            layers = [torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)]
            self.model.layers = torch.nn.ModuleList(layers)
            self.model.load_state_dict(MAPPINGS.open(self.path).views(), strict=False)
        self.clean = {name: copy.deepcopy(one) for name, one in self.model.named_parameters()}
        self.bytes = sum(part.nbytes for weight in self.clean.values() for part in parts(weight))
        self._before = used()
        self.current: Any = None
        self.patcher = ModelPatcher(self.model, load_device=CARD, offload_device=CPU)

    def in_file(self, drawn: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return drawn

    def with_lora(self, *seeds: int) -> Any:
        """A clone of the patcher, as a request makes one."""
        clone = self.patcher.clone()
        for seed in seeds:
            clone.add_patches(filename=f"lora-{seed}", patches=patches(seed))
        return clone

    def image(self, patcher: Any, room: int = 1 << 30) -> None:
        """What a request asks the host for, on a card with so many bytes for weights."""
        self.manager.room = room
        self.current = (
            patcher  # the host forgets one that nobody else holds, and leaves its weights where they are
        )
        with torch.inference_mode():
            self.manager.load_models_gpu([patcher])

    def unload(self) -> None:
        with torch.inference_mode():
            self.manager.unload_all_models()

    def expected(self, *seeds: int, clean: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
        """What Forge's arithmetic makes of the file's bytes."""
        found = {}
        for key, weight in (clean or self.clean).items():
            current = [[1.0, patches(seed)[key], 1.0, None, None] for seed in seeds]
            found[key] = self.merged(current, weight, key) if current else weight
        return found

    def merged(self, current: list[Any], weight: Any, key: str) -> torch.Tensor:
        from backend.patcher.lora import merge_lora_to_weight

        merged: torch.Tensor = merge_lora_to_weight(current, weight, key, computation_dtype=torch.float32)
        return merged

    def spoiled(self, number: int) -> dict[str, torch.Tensor]:
        """Somebody writes into a weight where it is; what all of them are then."""
        name = f"layers.{number}.weight"
        changed = copy.deepcopy(self.clean[name])
        for weight in (changed, self.model.get_parameter(name)):
            weight.data.mul_(3)
        return {**self.clean, name: changed}

    def right(self, expected: dict[str, torch.Tensor]) -> int:
        """How many of the six weights are these, bit for bit."""
        now = dict(self.model.named_parameters())
        return sum(same(now[key], tensor) for key, tensor in expected.items())

    def on_card(self) -> int:
        return sum(parameter.device == CARD for parameter in self.model.parameters())

    def used(self) -> int:
        """Bytes that are taken on the card."""
        return used() - self._before

    def end(self) -> None:
        self.undo()
        self.manager.current_loaded_models.clear()


class FourBit(Scene):
    """The same in NF4, its scales in 8 bits or not. What the host asks of CUDA is asked of the second device."""

    form = "nf4"
    nested = False

    def in_file(self, drawn: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        from backend.operations_bnb import ForgeParams4bit
        from bitsandbytes.functional import quantize_4bit

        found = {}
        for name, weight in drawn.items():
            found[name], state = quantize_4bit(weight, quant_type="nf4", compress_statistics=self.nested)
            found |= {f"{name}.{key}": tensor for key, tensor in state.as_dict(packed=True).items()}
        ForgeParams4bit.cuda = on_card
        quantize_4bit(drawn["layers.0.weight"].to(CARD), quant_type="nf4", compress_statistics=True)
        return found

    def merged(self, current: list[Any], weight: Any, key: str) -> torch.Tensor:
        from backend.operations_bnb import ForgeLoader4Bit, functional_dequantize_4bit

        merged = super().merged(current, functional_dequantize_4bit(weight), key)
        layer: Any = SimpleNamespace(weight=weight)
        again: torch.Tensor = ForgeLoader4Bit.reload_weight(layer, merged).weight
        return again


class FourBitNested(FourBit):
    nested = True


def on_card(parameter: Any) -> Any:
    return parameter.to(CARD) if parameter.bnb_quantized else parameter._quantize(CARD)


def same(one: Any, other: Any) -> bool:
    pairs = zip(parts(one), parts(other), strict=True)
    return all(torch.equal(*(bits(tensor) for tensor in pair)) for pair in pairs)


def parts(weight: Any) -> Iterator[torch.Tensor]:
    """What a weight consists of."""
    yield weight
    state = getattr(weight, "quant_state", None)
    while state is not None:
        yield from (state.absmax, state.code, *((state.offset,) if state.nested else ()))
        state = state.state2


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.data.cpu().contiguous().reshape(-1).view(torch.uint8)


def patches(seed: int, keys: Iterable[int] = range(LAYERS)) -> dict[str, Any]:
    """A LoRA of random numbers for the layers named."""
    random = torch.Generator().manual_seed(seed)
    found = {}
    for number in keys:
        up, down = (torch.randn(shape, generator=random) for shape in ((WIDTH, 4), (4, WIDTH)))
        found[f"layers.{number}.weight"] = ("lora", (up, down, 4.0, None, None))
    return found
