"""The checkpoints of `models_on_forge.py`: which files each consists of, and how those are made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from bench.flux import shapes
from tests.attacks import kinds_of_models as kinds
from tests.integration import tiny_gguf


@dataclass(frozen=True)
class Checkpoint:
    """A file, the text encoders and VAE that go with it, and the channels of its latents."""

    file: str
    modules: tuple[str, ...] = ()
    channels: int = 16

    @property
    def four_bit(self) -> bool:
        """Whether it takes bitsandbytes."""
        return self.file.startswith("nf4")


FLUX = ("t5", "clip", "vae")
CHECKPOINTS = {
    "SD 1.5": Checkpoint("sd15.safetensors", channels=4),
    "SD 2": Checkpoint("sd2.safetensors", channels=4),
    "SDXL": Checkpoint("sdxl.safetensors", channels=4),
    "SD 3": Checkpoint("sd3.safetensors", ("t5",)),
    "SD 3.5": Checkpoint("sd35.safetensors", ("t5",)),
    "SD 3.5 medium": Checkpoint("sd35m.safetensors", ("t5",)),
    "Chroma": Checkpoint("chroma.safetensors", ("t5", "vae")),
    "Flux": Checkpoint("dev.safetensors", FLUX),
    "Flux schnell": Checkpoint("schnell.safetensors", FLUX),
    "Flux Kontext": Checkpoint("kontext.safetensors", FLUX),
    "Flux Fill": Checkpoint("fill.safetensors", FLUX),
    "fp8 e4m3": Checkpoint("e4m3.safetensors", FLUX),
    "fp8 e5m2, T5 in fp8": Checkpoint("e5m2.safetensors", ("t5-e4m3", "clip", "vae")),
    "fp8 scaled": Checkpoint("scaled.safetensors", FLUX),
    "fp8 with NaNs": Checkpoint("nan.safetensors", FLUX),
    "fp8 all in one": Checkpoint("aio.safetensors"),
    "bf16, T5 in GGUF": Checkpoint("dev.safetensors", ("t5.gguf", "clip", "vae")),
    "GGUF Q8_0": Checkpoint("q8.gguf", FLUX),
    "GGUF Q4_0, T5 in GGUF": Checkpoint("q4.gguf", ("t5.gguf", "clip", "vae")),
    "dtypes in turns": Checkpoint("mixed.safetensors", FLUX),
    "NF4": Checkpoint("nf4.safetensors", FLUX),
    "NF4 nested, T5 in GGUF": Checkpoint("nf4-nested.safetensors", ("t5.gguf", "clip", "vae")),
    "NF4 without a state": Checkpoint("nf4-stateless.safetensors", FLUX),
}


def write_all(folder: Path, names: list[str]) -> None:
    wanted = {CHECKPOINTS[name].file for name in names} | {f for n in names for f in CHECKPOINTS[n].modules}
    dev, fp8 = kinds.flux(1), torch.float8_e4m3fn
    text = kinds.drawn(shapes.t5(shapes.TINY), 3)
    made: dict[str, Any] = {
        "sd15.safetensors": lambda: kinds.sd15(1),
        "sd2.safetensors": lambda: kinds.sd2(1),
        "sdxl.safetensors": lambda: kinds.sdxl(1),
        "sd3.safetensors": lambda: kinds.sd3(1),
        "sd35.safetensors": lambda: kinds.sd3(2, qk_norm="rms"),
        "sd35m.safetensors": lambda: kinds.sd3(3, qk_norm="rms", x_block_self_attn_layers=[0, 1]),
        "chroma.safetensors": lambda: kinds.chroma(1),
        "dev.safetensors": lambda: dev,
        "schnell.safetensors": lambda: kinds.flux(2, without="guidance_in"),
        "kontext.safetensors": lambda: kinds.flux(3),
        "fill.safetensors": lambda: kinds.flux(1, into=384),
        "e4m3.safetensors": lambda: {name: tensor.to(fp8) for name, tensor in dev.items()},
        "e5m2.safetensors": lambda: {name: tensor.to(torch.float8_e5m2) for name, tensor in dev.items()},
        "scaled.safetensors": lambda: kinds.scaled(1),
        "nan.safetensors": lambda: kinds.with_nan({name: tensor.to(fp8) for name, tensor in dev.items()}),
        "aio.safetensors": lambda: kinds.aio(1, fp8),
        "mixed.safetensors": lambda: {
            name: tensor.to((torch.float16, torch.float32, torch.bfloat16)[number % 3])
            for number, (name, tensor) in enumerate(dev.items())
        },
        "nf4.safetensors": lambda: kinds.four_bit(dev, nested=False),
        "nf4-nested.safetensors": lambda: kinds.four_bit(dev, nested=True),
        "nf4-stateless.safetensors": lambda: without_a_state(kinds.four_bit(dev, nested=False)),
        "t5": lambda: text,
        "t5-e4m3": lambda: {name: tensor.to(fp8) for name, tensor in text.items()},
        "clip": lambda: kinds.drawn(shapes.clip(shapes.TINY), 4),
        "vae": lambda: kinds.drawn(shapes.vae(shapes.TINY), 5),
    }
    for name in sorted(wanted):
        if name.endswith(".gguf"):
            kind = {"q4.gguf": "Q4_0"}.get(name, "Q8_0")
            tiny_gguf.write(text if name.startswith("t5") else dev, folder / name, kind)
        else:
            save_file(made[name](), path_of(folder, name))


def without_a_state(tensors: kinds.Tensors) -> kinds.Tensors:
    lost = "double_blocks.0.img_mlp.0.weight."
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(lost)}


def path_of(folder: Path, name: str) -> Path:
    return folder / (name if "." in name else f"{name}.safetensors")
