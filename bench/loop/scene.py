"""A model of one case, and the calls that Forge's sampling is made of."""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

import torch

from .forge_backend import Forge
from .stand_ins import Info
from .writer import Writer


class Scene:
    """The model (or none, before `build` and after `close`) with whatever its steps need."""

    def __init__(self, forge: Forge, writer: Writer, options: argparse.Namespace, files: list[Path]) -> None:
        self.forge, self.writer, self.options = forge, writer, options
        self.files = files
        self.engine: Any = None

    def build(self, name: str, file: Path | None = None) -> None:
        """As the WebUI: the checkpoint is chosen, then `forge_model_reload` (ours may have wrapped it)."""
        checkpoint = str(file or self.files[0])
        data = self.forge.web.model_data
        data.forge_loading_parameters = {
            "checkpoint_info": Info(checkpoint),
            "additional_modules": [str(path) for path in self.files[1:]],
            "unet_storage_dtype": None,
        }
        processing = sys.modules["modules.processing"]
        self.engine, _ = self.writer.timed(name, lambda: processing.forge_model_reload())
        transformer = self.unet.model.diffusion_model
        if file is None:
            where = {str(p.device) for p in transformer.parameters()}
            size = self.forge.manager.module_size(self.unet.model) / 1e9
            line = f"transformer {size:.2f} GB built on {', '.join(sorted(where))}"
            self.writer.row(line, phase="built", where=sorted(where))

    def close(self) -> None:
        self.engine = None

    def cleanup(self) -> None:
        self.forge.sampling.sampling_cleanup(self.unet)

    @property
    def unet(self) -> Any:
        return self.engine.forge_objects.unet

    def prepare(self, x: torch.Tensor) -> None:
        """Move the transformer as sampling asks for it."""
        self.forge.sampling.sampling_prepare(self.unet, x)

    def noise(self, seed: int) -> torch.Tensor:
        shape = (1, 16, self.options.height // 8, self.options.width // 8)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        return noise.to(self.forge.device)

    def sample(self, x: torch.Tensor, cond: dict[str, torch.Tensor]) -> torch.Tensor:
        """Euler's steps, of even length."""
        conditions = self.conditions(cond["crossattn"], cond["vector"])
        sigmas = torch.linspace(1, 0, self.options.steps + 1).tolist()
        for now, then in itertools.pairwise(sigmas):
            denoised = self.predict(x, now, conditions)
            x = x + (x - denoised) / now * (then - now)
        self.cleanup()
        return x

    def conditions(self, context: torch.Tensor, vector: torch.Tensor) -> dict[str, torch.Tensor]:
        device = self.forge.device
        guidance = torch.full((1,), 3.5, device=device)
        return {"c_crossattn": context.to(device), "y": vector.to(device), "guidance": guidance}

    def predict(self, x: torch.Tensor, sigma: float, conditions: dict[str, torch.Tensor]) -> torch.Tensor:
        level = torch.full((1,), sigma, device=x.device)
        found: torch.Tensor = self.unet.model.apply_model(x, level, **conditions)
        return found
