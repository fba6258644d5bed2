"""What can be asked of a WebUI that has a memory manager with a list of loaded models, and done to it."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ...stats.report import size
from .forms import FormUse, Inventory, uses
from .inside import Inside, Model
from .timing import component, name_of, on_device

MIB = 1 << 20


class ManagedInside(Inside):
    """A memory manager of the Forge and Comfy families: `current_loaded_models`, `unload_all_models`."""

    def __init__(self, manager: Any, inventory: Inventory) -> None:
        self._manager = manager
        self._inventory = inventory

    def device(self) -> Any:
        device = self._manager.get_torch_device()
        return device if device.type != "cpu" else None

    def vram(self) -> tuple[int, int] | None:
        if not self._simulated():
            return super().vram()
        total = int(self._manager.total_vram * MIB)
        return total - int(self._manager.get_free_memory()), total

    def vram_by_model(self) -> tuple[tuple[str, int], ...]:
        found: dict[str, int] = {}
        for loaded in self._loaded():
            name = component(loaded)
            found[name] = found.get(name, 0) + self._held(loaded)
        return tuple(found.items())

    def inference(self) -> int | None:
        asked = getattr(self._manager, "minimum_inference_memory", None)
        return int(asked()) if asked is not None and self.device() is not None else None

    def models(self) -> list[Model]:
        held = sum(length for _, length in self.vram_by_model())
        forms = self._forms([loaded.model.model for loaded in self._loaded()])
        return [replace(each, device_bytes=held, forms=forms) for each in super().models()]

    def _forms(self, modules: Iterable[Any]) -> tuple[FormUse, ...]:
        return tuple(use for module in modules for use in uses(name_of(module), self._inventory(module)))

    def free_vram(self) -> str:
        with self.nobody_else():
            held = self.vram_by_model()
            self._manager.unload_all_models()
            gc.collect()  # what dies with that is in the cache that is emptied then
            getattr(self._manager, "soft_empty_cache", lambda: None)()
        if not held:
            return "no model was on the device"
        names = ", ".join(name for name, _ in held)
        return f"{size(sum(length for _, length in held))} left the device: {names}"

    def _loaded(self) -> list[Any]:
        # A patcher is held weakly by some of them: what nobody else holds is about to leave the list.
        listed = [each for each in list(self._manager.current_loaded_models) if each.model is not None]
        home = getattr(self._manager, "cpu", None)
        if home is None:
            return [each for each in listed if each.device.type != "cpu"]
        return [each for each in listed if each.device != home]

    def _held(self, loaded: Any) -> int:
        # Tensors on the stand-in for a GPU do not say that they are there.
        return int(loaded.model.size) if self._simulated() else on_device(loaded)

    def _simulated(self) -> bool:
        return bool(getattr(self._manager, "simulated", False))
