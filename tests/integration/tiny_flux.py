"""Random Flux models of a few megabytes: the real names and layers of every file, narrow and few."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

HIDDEN, CONTEXT, POOLED = 384, 256, 768
DEPTH, SINGLE_DEPTH = 2, 2
HEAD = 128
T5_LAYERS, T5_INNER, T5_FF, T5_HEADS = 2, 256, 512, 4
CLIP_LAYERS = 2
CHANNELS = (32, 64, 128, 128)

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def linear(name: str, out: int, into: int) -> Shapes:
    yield f"{name}.weight", (out, into)
    yield f"{name}.bias", (out,)


def transformer() -> Shapes:
    yield from linear("img_in", HIDDEN, 64)
    for name, into in (("time_in", 256), ("vector_in", POOLED), ("guidance_in", 256)):
        yield from linear(f"{name}.in_layer", HIDDEN, into)
        yield from linear(f"{name}.out_layer", HIDDEN, HIDDEN)
    yield from linear("txt_in", HIDDEN, CONTEXT)
    for block in range(DEPTH):
        for stream in ("img", "txt"):
            name = f"double_blocks.{block}.{stream}"
            yield from linear(f"{name}_mod.lin", 6 * HIDDEN, HIDDEN)
            yield from linear(f"{name}_attn.qkv", 3 * HIDDEN, HIDDEN)
            yield f"{name}_attn.norm.query_norm.scale", (HEAD,)
            yield f"{name}_attn.norm.key_norm.scale", (HEAD,)
            yield from linear(f"{name}_attn.proj", HIDDEN, HIDDEN)
            yield from linear(f"{name}_mlp.0", 4 * HIDDEN, HIDDEN)
            yield from linear(f"{name}_mlp.2", HIDDEN, 4 * HIDDEN)
    for block in range(SINGLE_DEPTH):
        name = f"single_blocks.{block}"
        yield from linear(f"{name}.linear1", 7 * HIDDEN, HIDDEN)
        yield from linear(f"{name}.linear2", HIDDEN, 5 * HIDDEN)
        yield f"{name}.norm.query_norm.scale", (HEAD,)
        yield f"{name}.norm.key_norm.scale", (HEAD,)
        yield from linear(f"{name}.modulation.lin", 3 * HIDDEN, HIDDEN)
    yield from linear("final_layer.linear", 64, HIDDEN)
    yield from linear("final_layer.adaLN_modulation.1", 2 * HIDDEN, HIDDEN)


def t5() -> Shapes:
    yield "shared.weight", (32128, CONTEXT)
    for block in range(T5_LAYERS):
        attention, ff = (f"encoder.block.{block}.layer.{n}" for n in (0, 1))
        for name in "qkv":
            yield f"{attention}.SelfAttention.{name}.weight", (T5_INNER, CONTEXT)
        yield f"{attention}.SelfAttention.o.weight", (CONTEXT, T5_INNER)
        if block == 0:
            yield f"{attention}.SelfAttention.relative_attention_bias.weight", (32, T5_HEADS)
        for name in ("wi_0", "wi_1"):
            yield f"{ff}.DenseReluDense.{name}.weight", (T5_FF, CONTEXT)
        yield f"{ff}.DenseReluDense.wo.weight", (CONTEXT, T5_FF)
        yield f"{attention}.layer_norm.weight", (CONTEXT,)
        yield f"{ff}.layer_norm.weight", (CONTEXT,)
    yield "encoder.final_layer_norm.weight", (CONTEXT,)


def clip() -> Shapes:
    yield "text_model.embeddings.token_embedding.weight", (49408, POOLED)
    yield "text_model.embeddings.position_embedding.weight", (77, POOLED)
    for layer in range(CLIP_LAYERS):
        name = f"text_model.encoder.layers.{layer}"
        for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield from linear(f"{name}.self_attn.{projection}", POOLED, POOLED)
        yield from linear(f"{name}.mlp.fc1", 4 * POOLED, POOLED)
        yield from linear(f"{name}.mlp.fc2", POOLED, 4 * POOLED)
        for norm in ("layer_norm1", "layer_norm2"):
            yield f"{name}.{norm}.weight", (POOLED,)
            yield f"{name}.{norm}.bias", (POOLED,)
    yield "text_model.final_layer_norm.weight", (POOLED,)
    yield "text_model.final_layer_norm.bias", (POOLED,)


def convolution(name: str, out: int, into: int, size: int = 3) -> Shapes:
    yield f"{name}.weight", (out, into, size, size)
    yield f"{name}.bias", (out,)


def norm(name: str, size: int) -> Shapes:
    yield f"{name}.weight", (size,)
    yield f"{name}.bias", (size,)


def residual(name: str, into: int, out: int) -> Shapes:
    yield from norm(f"{name}.norm1", into)
    yield from convolution(f"{name}.conv1", out, into)
    yield from norm(f"{name}.norm2", out)
    yield from convolution(f"{name}.conv2", out, out)
    if into != out:
        yield from convolution(f"{name}.nin_shortcut", out, into, 1)


def middle(name: str) -> Shapes:
    size = CHANNELS[-1]
    yield from residual(f"{name}.mid.block_1", size, size)
    yield from norm(f"{name}.mid.attn_1.norm", size)
    for projection in ("q", "k", "v", "proj_out"):
        yield from convolution(f"{name}.mid.attn_1.{projection}", size, size, 1)
    yield from residual(f"{name}.mid.block_2", size, size)


def vae() -> Shapes:
    yield from convolution("encoder.conv_in", CHANNELS[0], 3)
    into = CHANNELS[0]
    for level, size in enumerate(CHANNELS):
        for block in range(2):
            yield from residual(f"encoder.down.{level}.block.{block}", into, size)
            into = size
        if level < len(CHANNELS) - 1:
            yield from convolution(f"encoder.down.{level}.downsample.conv", size, size)
    yield from middle("encoder")
    yield from norm("encoder.norm_out", CHANNELS[-1])
    yield from convolution("encoder.conv_out", 32, CHANNELS[-1])
    yield from convolution("decoder.conv_in", CHANNELS[-1], 16)
    yield from middle("decoder")
    into = CHANNELS[-1]
    for level, size in reversed(list(enumerate(CHANNELS))):
        for block in range(3):
            yield from residual(f"decoder.up.{level}.block.{block}", into, size)
            into = size
        if level:
            yield from convolution(f"decoder.up.{level}.upsample.conv", size, size)
    yield from norm("decoder.norm_out", CHANNELS[0])
    yield from convolution("decoder.conv_out", 3, CHANNELS[0])


def write(path: Path, shapes: Shapes, seed: int, dtype: torch.dtype) -> None:
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes:
        values = torch.randn(shape, generator=random) * (1.0 / max(shape[1:], default=50) ** 0.5)
        if "norm" in name and name.endswith(("weight", "scale")):
            values += 1
        tensors[name] = values.to(dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


def lora(path: Path, seed: int, rank: int = 4) -> None:
    """A LoRA for some of the transformer's layers, in the format of the original trainers."""
    random = torch.Generator().manual_seed(seed)
    shapes = dict(transformer())
    tensors = {}
    for block in range(DEPTH):
        for layer in ("img_attn_qkv", "img_attn_proj", "txt_mlp_0"):
            out, into = shapes[f"double_blocks.{block}.{layer[:3]}_{layer[4:].replace('_', '.')}.weight"]
            name = f"lora_unet_double_blocks_{block}_{layer}"
            tensors[f"{name}.lora_down.weight"] = torch.randn(rank, into, generator=random) * 0.05
            tensors[f"{name}.lora_up.weight"] = torch.randn(out, rank, generator=random) * 0.05
            tensors[f"{name}.alpha"] = torch.tensor(float(rank))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


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
    write(files["t5"], t5(), 3, torch.float16)
    write(files["clip"], clip(), 4, torch.float16)
    write(files["vae"], vae(), 5, torch.bfloat16)
    for name, seed in (("tiny-lora-a", 6), ("tiny-lora-b", 7)):
        files[name] = models / "Lora" / f"{name}.safetensors"
        lora(files[name], seed)
    return files
