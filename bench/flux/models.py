"""A WebUI's models folder: found, or made of random numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from . import shapes
from .files import write

RANK = 16
# What `--make` takes: the size, the transformer's dtype.
KINDS = {
    "flux": (shapes.REAL, torch.bfloat16),
    "flux-fp8": (shapes.REAL, torch.float8_e4m3fn),
    "tiny": (shapes.TINY, torch.bfloat16),
}


@dataclass(frozen=True)
class Models:
    """What the requests name: file names of checkpoints, paths of text encoders and VAE, names of LoRAs."""

    folder: Path
    checkpoint: str
    second: str | None
    modules: tuple[str, ...]
    loras: tuple[str, ...]

    def options(self) -> dict[str, object]:
        """The WebUI's options that select them."""
        return {
            "sd_model_checkpoint": self.checkpoint,
            "forge_preset": "flux",
            "forge_additional_modules": list(self.modules),
        }


def made(folder: Path, kind: str, *, second: bool) -> Models:
    """The files that a run needs, written where they are not there yet; `second` is one more checkpoint."""
    size, dtype = KINDS[kind]
    checkpoints = folder / "Stable-diffusion"
    for number, name in enumerate(("one", "two") if second else ("one",)):
        write(checkpoints / f"{kind}-{name}.safetensors", shapes.transformer(size), dtype, number)
    modules = (
        write(folder / "text_encoder" / f"{_of(kind)}-t5.safetensors", shapes.t5(size), torch.float16, 2),
        write(folder / "text_encoder" / f"{_of(kind)}-clip.safetensors", shapes.clip(size), torch.float16, 3),
        write(folder / "VAE" / f"{_of(kind)}-vae.safetensors", shapes.vae(size), torch.float32, 4),
    )
    loras = [f"{_of(kind)}-lora-{letter}" for letter in "ab"]
    for number, name in enumerate(loras):
        write(folder / "Lora" / f"{name}.safetensors", shapes.lora(size, RANK), torch.bfloat16, 5 + number)
    other = f"{kind}-two.safetensors" if second else None
    return Models(folder, f"{kind}-one.safetensors", other, tuple(map(str, modules)), tuple(loras))


def found(folder: Path) -> Models:
    """The first two checkpoints and LoRAs by name, and all text encoders and VAEs of a folder that is there."""
    checkpoints = [path.name for path in _files(folder / "Stable-diffusion")]
    if not checkpoints:
        raise SystemExit(f"no .safetensors file in {folder / 'Stable-diffusion'}")
    modules = [str(path) for place in ("text_encoder", "VAE") for path in _files(folder / place)]
    loras = [path.stem for path in _files(folder / "Lora")]
    return Models(folder, checkpoints[0], next(iter(checkpoints[1:]), None), tuple(modules), tuple(loras[:2]))


def _files(folder: Path) -> list[Path]:
    return sorted(path.absolute() for path in folder.rglob("*.safetensors"))


def _of(kind: str) -> str:
    """Text encoders, VAE and LoRAs are the same for every dtype of the transformer."""
    return kind.split("-")[0]
