"""Weight files made on the spot: the real architectures with random values."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch


def esrgan(path: Path, *, seed: int = 0, width: int = 8, growth: int = 32) -> Path:
    """A four times ESRGAN (one block; loaders expect a growth of 32), as `torch.save` writes it."""
    random = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}

    def layer(name: str, outputs: int, inputs: int) -> None:
        state[f"{name}.weight"] = torch.randn(outputs, inputs, 3, 3, generator=random) * 0.1
        state[f"{name}.bias"] = torch.randn(outputs, generator=random) * 0.1

    layer("conv_first", width, 3)
    for dense in range(1, 4):
        for number in range(1, 6):
            outputs = growth if number < 5 else width
            layer(f"body.0.rdb{dense}.conv{number}", outputs, width + (number - 1) * growth)
    for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
        layer(name, width, width)
    layer("conv_last", 3, width)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return path


def facts(path: Path) -> dict[str, object]:
    """bytes and sha256, as a catalog has them."""
    return {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
