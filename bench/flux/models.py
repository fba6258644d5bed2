"""A WebUI's models folder: found, or made of random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from . import forms, shapes
from .files import write
from .forms import Tensor
from .shapes import Size

RANK = 16
Form = Callable[[Size], Iterator[Tensor]]


def _plain(dtype: torch.dtype) -> Form:
    return lambda size: forms.plain(shapes.transformer(size), dtype)


# The form of a checkpoint, behind the size in the name of a kind.
FORMS: dict[str, Form] = {
    "": _plain(torch.bfloat16),
    "fp8": _plain(torch.float8_e4m3fn),
    "q8": lambda size: forms.gguf(shapes.transformer(size), "Q8_0"),
    "q4k": lambda size: forms.gguf(shapes.transformer(size), "Q4_K"),
    "nf4": lambda size: forms.nf4(shapes.transformer(size)),
    "fp8-aio": lambda size: forms.all_in_one(size, torch.float8_e4m3fn),
}
SIZES = {"flux": shapes.REAL, "quarter": shapes.QUARTER, "tiny": shapes.TINY}
# What `--make` takes.
KINDS = [f"{size}-{form}".rstrip("-") for size in SIZES for form in FORMS]


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
    name, _, form = kind.partition("-")
    size = SIZES[name]
    checkpoints = [
        folder / "Stable-diffusion" / f"{kind}-{number}{_suffix(form)}" for number in ("one", "two")
    ]
    for seed, path in enumerate(checkpoints if second else checkpoints[:1]):
        write(path, FORMS[form](size), seed)
    # Text encoders, VAE and LoRAs are the same for every form of the transformer.
    text, half = folder / "text_encoder", torch.float16
    modules = (
        write(text / f"{name}-t5.safetensors", forms.plain(shapes.t5(size), half), 2),
        write(text / f"{name}-clip.safetensors", forms.plain(shapes.clip(size), half), 3),
        write(folder / "VAE" / f"{name}-vae.safetensors", forms.plain(shapes.vae(size), torch.float32), 4),
    )
    loras = [f"{name}-lora-{letter}" for letter in "ab"]
    for seed, lora in enumerate(loras, 5):
        listed = forms.plain(shapes.lora(size, RANK), torch.bfloat16)
        write(folder / "Lora" / f"{lora}.safetensors", listed, seed)
    chosen = () if form == "fp8-aio" else tuple(map(str, modules))
    other = checkpoints[1].name if second else None
    return Models(folder, checkpoints[0].name, other, chosen, tuple(loras))


def found(folder: Path) -> Models:
    """The first two checkpoints and LoRAs by name, and all text encoders and VAEs of a folder that is there."""
    checkpoints = [path.name for path in _files(folder / "Stable-diffusion")]
    if not checkpoints:
        raise SystemExit(f"no .safetensors or .gguf file in {folder / 'Stable-diffusion'}")
    modules = [str(path) for place in ("text_encoder", "VAE") for path in _files(folder / place)]
    loras = [path.stem for path in _files(folder / "Lora")]
    return Models(folder, checkpoints[0], next(iter(checkpoints[1:]), None), tuple(modules), tuple(loras[:2]))


def _files(folder: Path) -> list[Path]:
    return sorted(path.absolute() for path in folder.rglob("*") if path.suffix in (".safetensors", ".gguf"))


def _suffix(form: str) -> str:
    return ".gguf" if form.startswith("q") else ".safetensors"
