"""A LoRA of random numbers for every matrix of the transformer's blocks."""

from __future__ import annotations

from typing import Any

import torch

RANK = 16


def lora(model: Any) -> dict[str, Any]:
    """Patches by key, as Forge's patchers take them."""
    from backend.patcher.lora import load_lora, model_lora_keys_unet

    random = torch.Generator().manual_seed(16)
    tensors = {}
    for name, parameter in model.named_parameters():
        if "_blocks." not in name or parameter.dim() != 2:
            continue
        key = "lora_unet_" + name.removeprefix("diffusion_model.").removesuffix(".weight").replace(".", "_")
        out, into = parameter.shape
        tensors[f"{key}.lora_down.weight"] = torch.randn(RANK, into, generator=random) * 0.05
        tensors[f"{key}.lora_up.weight"] = torch.randn(out, RANK, generator=random) * 0.05
        tensors[f"{key}.alpha"] = torch.tensor(float(RANK))
    found: dict[str, Any] = load_lora(tensors, model_lora_keys_unet(model, {}))[0]
    return found


def merge_all(patcher: Any, patches: dict[str, Any]) -> None:
    """Compute every patched weight once, and keep none."""
    from backend.patcher.lora import merge_lora_to_weight

    for key, value in patches.items():
        weight = patcher.model.get_parameter(key)
        merge_lora_to_weight([[1.0, value, 1.0, None, None]], weight, key, torch.float32)
