"""Checkpoints of every kind that Forge knows, as small as it takes them: random weights in Forge's own layers.

Runs in Forge's environment. `shrink` makes Forge accept the small ones, wherever it does not look at the file.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.flux import shapes
from tests.integration import tiny_flux

Tensors = dict[str, torch.Tensor]
UNET, VAE = "model.diffusion_model.", "first_stage_model."
SHRINK = Path(tiny_flux.__file__).parent / "probe" / "scripts" / "shrink.py"
TEXT_MLP = 256
CHROMA = {"guidance_out_dim": shapes.TINY.hidden, "guidance_hidden_dim": 256, "guidance_n_layers": 2}
CLASSIC: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "use_spatial_transformer": True,
    "transformer_depth_middle": -1,
}
SD15 = CLASSIC | {"num_res_blocks": [1, 1], "channel_mult": [1, 1], "transformer_depth": [1, 1]}
SD15 |= {"transformer_depth_output": [1, 1, 1, 1], "context_dim": 768, "num_heads": 8}
SD2 = SD15 | {"context_dim": 1024, "num_head_channels": 64, "use_linear_in_transformer": True}
del SD2["num_heads"]
# The smallest of SDXL's kin that the host loads as one.
SDXL = CLASSIC | {"num_res_blocks": [1, 1, 1], "channel_mult": [1, 1, 1], "transformer_depth": [0, 2, 5]}
SDXL |= {"transformer_depth_output": [0] * 6, "context_dim": 2048, "num_head_channels": 64}
SDXL |= {"use_linear_in_transformer": True, "adm_in_channels": 2816, "num_classes": "sequential"}
SD3 = {"patch_size": 2, "in_channels": 16, "depth": 2, "adm_in_channels": 2048, "num_patches": 256}
SD3 |= {"pos_embed_max_size": 16, "input_size": None}
SD3 |= {
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": 4096, "out_features": 128},
    }
}


def shrink() -> None:
    """Text encoders of two narrow layers, a narrow VAE, Flux as its file is."""
    import transformers
    from backend import loader

    spec = importlib.util.spec_from_file_location("shrink", SHRINK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.shrink()
    clip = transformers.CLIPTextConfig.from_pretrained

    def from_pretrained(*args: Any, **kwargs: Any) -> Any:
        config = clip(*args, **kwargs)
        if config.hidden_size > shapes.POOLED:
            config.intermediate_size = TEXT_MLP
        return config

    transformers.CLIPTextConfig.from_pretrained = from_pretrained
    t5 = transformers.T5TokenizerFast
    # Else it is made of another file, which takes a protobuf that not every environment has.
    t5.from_pretrained = partial(t5.from_pretrained, add_prefix_space=None)
    loader.GuessChroma.unet_extra_config = CHROMA


def random_weights(build: Callable[[], torch.nn.Module], seed: int, prefix: str = "") -> Tensors:
    """A module's tensors under their names in a file, so that what goes through them stays finite."""
    with torch.device("meta"):
        named = build().state_dict()
    random = torch.Generator().manual_seed(seed)
    found = {}
    for name, tensor in named.items():
        fan = max(tensor[0].numel(), 50) if tensor.ndim > 1 else 2500
        values = torch.randn(tensor.shape, generator=random) * fan**-0.5
        found[prefix + name] = (values + 1 if "norm" in name and name.endswith("weight") else values).half()
    return found


def unet(config: dict[str, Any], seed: int) -> Tensors:
    from backend.nn.unet import IntegratedUNet2DConditionModel

    return random_weights(lambda: IntegratedUNet2DConditionModel(**config), seed, UNET)


def vae(repository: str, seed: int, prefix: str = VAE) -> Tensors:
    from backend import loader

    kind = loader.IntegratedAutoencoderKL
    config = kind.load_config(str(folder(repository) / "vae"))
    return random_weights(lambda: kind.from_config(config), seed, prefix)


def clip(repository: str, component: str, seed: int, prefix: str) -> Tensors:
    import transformers
    from backend.nn.clip import IntegratedCLIP

    config = transformers.CLIPTextConfig.from_pretrained(str(folder(repository) / component))
    build = partial(IntegratedCLIP, transformers.CLIPTextModel, config, add_text_projection=True)
    return random_weights(build, seed, prefix)


def folder(repository: str) -> Path:
    from backend import loader

    return Path(loader.dir_path) / "huggingface" / repository


def sd15(seed: int) -> Tensors:
    repository = "runwayml/stable-diffusion-v1-5"
    text = clip(repository, "text_encoder", seed, "cond_stage_model.")
    left_out = ("text_projection.weight", "logit_scale")
    text = {name: tensor for name, tensor in text.items() if not name.endswith(left_out)}
    return unet(SD15, seed) | vae(repository, seed) | text


def sd2(seed: int) -> Tensors:
    """Its text encoder as OpenCLIP writes it."""
    from huggingface_guess import model_list

    repository = "stabilityai/stable-diffusion-2-1"
    text = clip(repository, "text_encoder", seed, "clip_h.")
    text = model_list.SD20.process_clip_state_dict_for_saving(None, text)
    return unet(SD2, seed) | vae(repository, seed) | text


def sdxl(seed: int) -> Tensors:
    """Its second text encoder as OpenCLIP writes it: what the host makes three tensors of is one in the file."""
    from huggingface_guess import model_list

    repository = "stabilityai/stable-diffusion-xl-base-1.0"
    text = clip(repository, "text_encoder", seed, "clip_l.") | clip(
        repository, "text_encoder_2", seed, "clip_g."
    )
    return (
        unet(SDXL, seed)
        | vae(repository, seed)
        | model_list.SDXL.process_clip_state_dict_for_saving(None, text)
    )


def sd3(seed: int, **more: Any) -> Tensors:
    """With its two CLIPs; its T5 is a file of its own."""
    from backend.nn.mmditx import MMDiTX

    repository = "stabilityai/stable-diffusion-3-medium-diffusers"
    found = random_weights(lambda: MMDiTX(**(SD3 | more)), seed, UNET) | vae(repository, seed)
    found |= clip(repository, "text_encoder", seed, "text_encoders.clip_l.")
    return found | clip(repository, "text_encoder_2", seed, "text_encoders.clip_g.")


def chroma(seed: int) -> Tensors:
    from backend.nn.chroma import IntegratedChromaTransformer2DModel

    size = shapes.TINY
    config = {
        "in_channels": 16,
        "vec_in_dim": 768,
        "context_in_dim": size.context,
        "hidden_size": size.hidden,
    }
    config |= {"mlp_ratio": 4.0, "num_heads": size.hidden // 128, "depth": size.depth, "theta": 10000}
    config |= {"depth_single_blocks": size.single_depth, "axes_dim": [16, 56, 56], "qkv_bias": True, **CHROMA}
    made = random_weights(lambda: IntegratedChromaTransformer2DModel(**config), seed)
    return {name: tensor.bfloat16() for name, tensor in made.items()}


def flux(seed: int, without: str = "nothing", into: int = 64) -> Tensors:
    """`into`: channels that it takes; Fill takes those of a mask and a picture too."""
    named = dict(tiny_flux.transformer()) | {"img_in.weight": (shapes.TINY.hidden, into)}
    return drawn(((name, shape) for name, shape in named.items() if not name.startswith(without)), seed)


def drawn(named: Iterable[tuple[str, tuple[int, ...]]], seed: int) -> Tensors:
    random = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in named:
        values = torch.randn(shape, generator=random) * max(shape[1:], default=2500) ** -0.5
        found[name] = (values + 1 if "norm" in name else values).bfloat16()
    return found


def aio(seed: int, dtype: torch.dtype) -> Tensors:
    """Everything in one file, as fp8 checkpoints of Flux are published; with what belongs to nobody in between."""
    found = {UNET + name: tensor.to(dtype) for name, tensor in flux(seed).items()}
    found["odd"] = torch.ones(3, dtype=torch.uint8)  # what comes after it is aligned to nothing
    found |= {f"vae.{name}": tensor for name, tensor in drawn(shapes.vae(shapes.TINY), seed).items()}
    text = ("clip_l", shapes.clip), ("t5xxl", shapes.t5)
    for name, listed in text:
        made = drawn(listed(shapes.TINY), seed).items()
        found |= {f"text_encoders.{name}.transformer.{key}": tensor.to(dtype) for key, tensor in made}
    return found


def scaled(seed: int) -> Tensors:
    """fp8 with a scale for every matrix, as its makers write it."""
    found: Tensors = {}
    for name, tensor in flux(seed).items():
        if tensor.ndim == 2:
            scale = tensor.abs().max().float() / 400
            found[name] = (tensor.float() / scale).to(torch.float8_e4m3fn)
            found[f"{name.removesuffix('weight')}scale_weight"] = scale
        else:
            found[name] = tensor.to(torch.float8_e4m3fn)
    return found


def with_nan(tensors: Tensors) -> Tensors:
    """fp8 with NaNs of both signs in it."""
    spoiled = {name: tensor.clone() for name, tensor in tensors.items()}
    spoiled["double_blocks.0.img_mlp.0.weight"].view(torch.uint8)[0, :2] = torch.tensor(
        [0x7F, 0xFF], dtype=torch.uint8
    )
    return spoiled


def four_bit(tensors: Tensors, nested: bool) -> Tensors:
    from bitsandbytes.functional import quantize_4bit

    found: Tensors = {}
    for name, tensor in tensors.items():
        found[name] = tensor
        if tensor.ndim == 2:
            found[name], state = quantize_4bit(tensor, quant_type="nf4", compress_statistics=nested)
            found |= {f"{name}.{key}": part for key, part in state.as_dict(packed=True).items()}
    return found
