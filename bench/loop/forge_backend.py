"""Forge's own code in this process, on a card of the size that a case asks for."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from measure.places import ROOT, module_at

from .cases import GIB, Case
from .stand_ins import stand_ins

# What a process of ours has on a card beside its tensors.
CONTEXT = GIB // 2


class Forge:
    """Forge's backend in this process, with stand-ins for what of the WebUI it (and ours) asks for."""

    def __init__(self, options: argparse.Namespace) -> None:
        folder = options.forge.resolve()
        self._tiny = bool(options.tiny)
        # `gguf` is Forge's own there, as in the WebUI.
        parts = ("packages_3rdparty", "repositories/huggingface_guess", "")
        sys.path[:0] = [str(folder / part) for part in parts]
        stand_ins(options.work)
        simulated = not torch.cuda.is_available()
        sys.argv = [sys.argv[0], *(["--always-cpu", "--unet-in-bf16"] if simulated else [])]
        from backend import memory_management as manager

        self.manager: Any = manager
        self.cpu = torch.device("cpu")
        self.simulated = simulated
        self.ballast_size = 0
        self._total = 0
        if simulated:
            self._simulate()
        import backend.loader
        from backend.sampling import sampling_function

        if self._tiny:
            module_at(ROOT / "tests" / "integration" / "probe" / "scripts" / "shrink.py").shrink()
        self.sampling: Any = sampling_function
        self.web: Any = sys.modules["modules.sd_models"]
        self.web.forge_loader = backend.loader.forge_loader
        self.device = manager.get_torch_device()

    def describe(self) -> str:
        import transformers

        name = "a second CPU" if self.simulated else torch.cuda.get_device_name()
        return f"{name}, PyTorch {torch.__version__}, transformers {transformers.__version__}"

    def _simulate(self) -> None:
        """Models go to a CPU that is not equal to their home; what is there counts as taken from a card."""
        manager = self.manager
        real = manager.get_free_memory

        def get_free_memory(dev: Any = None, torch_free_too: bool = False) -> Any:
            if dev == self.cpu:
                return real(dev, torch_free_too)
            there = [each for each in manager.current_loaded_models if each.device != self.cpu]
            free = self._total - sum(manager.module_size(each.model.model) for each in there)
            return (free, free) if torch_free_too else free

        manager.get_free_memory = get_free_memory
        manager.get_torch_device = lambda: torch.device("cpu", 0)
        manager.text_encoder_device = manager.get_torch_device
        manager.is_device_cpu = lambda device: device == self.cpu
        manager.vram_state = manager.VRAMState.NORMAL_VRAM

    @contextmanager
    def card(self, case: Case) -> Iterator[None]:
        """The case's card and what is kept for inference on it."""
        manager, before = self.manager, self.manager.current_inference_memory
        total = self._total = case.card or 0
        ballast = None
        if not self.simulated:
            free, whole = torch.cuda.mem_get_info()
            total = case.card or whole
            self.ballast_size = max(0, free - (case.card - CONTEXT)) if case.card else 0
            ballast = torch.empty(self.ballast_size, dtype=torch.uint8, device=self.device)
            torch.cuda.reset_peak_memory_stats()
        manager.total_vram = total / (1 << 20)
        manager.current_inference_memory = int(case.kept * total if case.kept < 1 else case.kept)
        pinned, manager.PIN_SHARED_MEMORY = manager.PIN_SHARED_MEMORY, case.pin and not self.simulated
        try:
            yield
        finally:
            del ballast
            manager.PIN_SHARED_MEMORY = pinned
            self.ballast_size = 0
            manager.current_inference_memory = before
            self.clear()

    def clear(self) -> None:
        """As if this process had just started."""
        manager, data = self.manager, self.web.model_data
        data.sd_model, data.forge_hash = None, ""
        # The host would copy what it throws away back to RAM first.
        manager.current_loaded_models.clear()
        gc.collect()
        manager.soft_empty_cache()
