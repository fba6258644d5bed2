"""Random Flux models of a few megabytes: the real names and layers of every file, narrow and few."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from bench.flux import shapes
from bench.flux.shapes import TINY, Shapes

COMMON = {
    "seed": 1,
    "steps": 2,
    "width": 64,
    "height": 64,
    "cfg_scale": 1,
    "sampler_name": "Euler",
    "scheduler": "Simple",
}
"""What every request of a test asks for, unless it says otherwise."""


def transformer() -> Shapes:
    return shapes.transformer(TINY)


def write(path: Path, tensors: Shapes, seed: int, dtype: torch.dtype) -> None:
    random = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in tensors:
        values = torch.randn(shape, generator=random) * (1.0 / max(shape[1:], default=50) ** 0.5)
        if "norm" in name and name.endswith(("weight", "scale")):
            values += 1
        made[name] = values.to(dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(made, path)


def lora(path: Path, seed: int, rank: int = 4) -> None:
    """A LoRA for some of the transformer's layers, in the format of the original trainers."""
    random = torch.Generator().manual_seed(seed)
    layers = dict(transformer())
    tensors = {}
    for block in range(TINY.depth):
        for layer in ("img_attn_qkv", "img_attn_proj", "txt_mlp_0"):
            out, into = layers[f"double_blocks.{block}.{layer[:3]}_{layer[4:].replace('_', '.')}.weight"]
            name = f"lora_unet_double_blocks_{block}_{layer}"
            tensors[f"{name}.lora_down.weight"] = torch.randn(rank, into, generator=random) * 0.05
            tensors[f"{name}.lora_up.weight"] = torch.randn(out, rank, generator=random) * 0.05
            tensors[f"{name}.alpha"] = torch.tensor(float(rank))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


def schnell(path: Path, seed: int) -> None:
    """A transformer of the other Flux, which has no guidance."""
    write(path, (each for each in transformer() if "guidance_in" not in each[0]), seed, torch.bfloat16)


def scaled_fp8(path: Path, source: Path) -> None:
    """A checkpoint as it is published in fp8: the blocks' matrices, each with a scale of its own."""
    found = {"scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn)}
    for name, tensor in load_file(source).items():
        if tensor.ndim == 2 and "blocks." in name:
            scale = tensor.float().abs().amax() / 448
            found[name] = (tensor.float() / scale).to(torch.float8_e4m3fn)
            found[f"{name.removesuffix('weight')}scale_weight"] = scale
        else:
            found[name] = tensor
    save_file(found, path)


def write_all(models: Path) -> dict[str, Path]:
    """A models folder as Forge expects it: two checkpoints, text encoders, VAE, two LoRAs."""
    files = {
        "one": models / "Stable-diffusion" / "tiny-one.safetensors",
        "two": models / "Stable-diffusion" / "tiny-two.safetensors",
        "t5": models / "text_encoder" / "tiny-t5.safetensors",
        "clip": models / "text_encoder" / "tiny-clip.safetensors",
        "vae": models / "VAE" / "tiny-vae.safetensors",
    }
    write(files["one"], transformer(), 1, torch.bfloat16)
    write(files["two"], transformer(), 2, torch.bfloat16)
    write(files["t5"], shapes.t5(TINY), 3, torch.float16)
    write(files["clip"], shapes.clip(TINY), 4, torch.float16)
    write(files["vae"], shapes.vae(TINY), 5, torch.bfloat16)
    for name, seed in (("tiny-lora-a", 6), ("tiny-lora-b", 7)):
        files[name] = models / "Lora" / f"{name}.safetensors"
        lora(files[name], seed)
    return files


def options(
    files: Mapping[str, Path], checkpoint: str = "tiny-one.safetensors", **more: object
) -> dict[str, Any]:
    """What a Forge has to be set to for these."""
    modules = [str(files[name]) for name in ("t5", "clip", "vae")]
    return {
        "sd_model_checkpoint": checkpoint,
        "forge_additional_modules": modules,
        "forge_preset": "flux",
        **more,
    }
