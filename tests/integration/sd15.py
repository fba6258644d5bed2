"""A random Stable Diffusion 1.5 of real size (2.1 GB), with a small UNet (0.5 GB), and small as a whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from bench.flux.shapes import Shapes, convolution, linear, norm

UNET, VAE = "model.diffusion_model", "first_stage_model"
CLIP = "cond_stage_model.transformer.text_model"
WIDTH, CONTEXT, TIME = 320, 768, 1280
TEXT_MLP = 3072


@dataclass(frozen=True)
class Size:
    """`widths`, `blocks`: of the UNet's levels, and how many each of them has."""

    widths: tuple[int, ...]
    blocks: int
    text_layers: int
    vae_widths: tuple[int, int, int, int]


SMALL_UNET = Size((320, 320), 1, 12, (128, 256, 512, 512))
"""What every WebUI of the family takes for Stable Diffusion 1.5: text encoder and VAE have their real size."""
TINY = Size((320, 320), 1, 2, (32, 64, 128, 128))
"""As wide as it must be to be recognised; where the test's small models are accepted."""


def residual(name: str, into: int, out: int) -> Shapes:
    yield from norm(f"{name}.in_layers.0", into)
    yield from convolution(f"{name}.in_layers.2", out, into)
    yield from linear(f"{name}.emb_layers.1", out, TIME)
    yield from norm(f"{name}.out_layers.0", out)
    yield from convolution(f"{name}.out_layers.3", out, out)
    if into != out:
        yield from convolution(f"{name}.skip_connection", out, into, 1)


def attention(name: str, size: int) -> Shapes:
    yield from norm(f"{name}.norm", size)
    yield from convolution(f"{name}.proj_in", size, size, 1)
    block = f"{name}.transformer_blocks.0"
    for attn, context in (("attn1", size), ("attn2", CONTEXT)):
        yield f"{block}.{attn}.to_q.weight", (size, size)
        yield f"{block}.{attn}.to_k.weight", (size, context)
        yield f"{block}.{attn}.to_v.weight", (size, context)
        yield from linear(f"{block}.{attn}.to_out.0", size, size)
    yield from linear(f"{block}.ff.net.0.proj", 8 * size, size)
    yield from linear(f"{block}.ff.net.2", size, 4 * size)
    for number in (1, 2, 3):
        yield from norm(f"{block}.norm{number}", size)
    yield from convolution(f"{name}.proj_out", size, size, 1)


def unet(size: Size) -> Shapes:
    yield from linear(f"{UNET}.time_embed.0", TIME, WIDTH)
    yield from linear(f"{UNET}.time_embed.2", TIME, TIME)
    yield from convolution(f"{UNET}.input_blocks.0.0", WIDTH, 4)
    kept, into, block, last = [WIDTH], WIDTH, 1, len(size.widths) - 1
    for level, width in enumerate(size.widths):
        for _ in range(size.blocks):
            yield from residual(f"{UNET}.input_blocks.{block}.0", into, width)
            if level < last:
                yield from attention(f"{UNET}.input_blocks.{block}.1", width)
            into = width
            kept.append(width)
            block += 1
        if level < last:
            yield from convolution(f"{UNET}.input_blocks.{block}.0.op", width, width)
            kept.append(width)
            block += 1
    yield from residual(f"{UNET}.middle_block.0", into, into)
    yield from attention(f"{UNET}.middle_block.1", into)
    yield from residual(f"{UNET}.middle_block.2", into, into)
    block = 0
    for level, width in reversed(list(enumerate(size.widths))):
        for number in range(size.blocks + 1):
            yield from residual(f"{UNET}.output_blocks.{block}.0", into + kept.pop(), width)
            into = width
            if level < last:
                yield from attention(f"{UNET}.output_blocks.{block}.1", width)
            if level and number == size.blocks:
                place = 2 if level < last else 1
                yield from convolution(f"{UNET}.output_blocks.{block}.{place}.conv", width, width)
            block += 1
    yield from norm(f"{UNET}.out.0", WIDTH)
    yield from convolution(f"{UNET}.out.2", 4, WIDTH)


def _vae_residual(name: str, into: int, out: int) -> Shapes:
    yield from norm(f"{name}.norm1", into)
    yield from convolution(f"{name}.conv1", out, into)
    yield from norm(f"{name}.norm2", out)
    yield from convolution(f"{name}.conv2", out, out)
    if into != out:
        yield from convolution(f"{name}.nin_shortcut", out, into, 1)


def _vae_middle(name: str, size: int) -> Shapes:
    yield from _vae_residual(f"{name}.mid.block_1", size, size)
    yield from norm(f"{name}.mid.attn_1.norm", size)
    for projection in ("q", "k", "v", "proj_out"):
        yield from convolution(f"{name}.mid.attn_1.{projection}", size, size, 1)
    yield from _vae_residual(f"{name}.mid.block_2", size, size)


def vae(size: Size) -> Shapes:
    widths = size.vae_widths
    encoder, decoder = f"{VAE}.encoder", f"{VAE}.decoder"
    yield from convolution(f"{encoder}.conv_in", widths[0], 3)
    into = widths[0]
    for level, width in enumerate(widths):
        for block in range(2):
            yield from _vae_residual(f"{encoder}.down.{level}.block.{block}", into, width)
            into = width
        if level < 3:
            yield from convolution(f"{encoder}.down.{level}.downsample.conv", width, width)
    yield from _vae_middle(encoder, widths[-1])
    yield from norm(f"{encoder}.norm_out", widths[-1])
    yield from convolution(f"{encoder}.conv_out", 8, widths[-1])
    yield from convolution(f"{VAE}.quant_conv", 8, 8, 1)
    yield from convolution(f"{VAE}.post_quant_conv", 4, 4, 1)
    yield from convolution(f"{decoder}.conv_in", widths[-1], 4)
    yield from _vae_middle(decoder, widths[-1])
    into = widths[-1]
    for level, width in reversed(list(enumerate(widths))):
        for block in range(3):
            yield from _vae_residual(f"{decoder}.up.{level}.block.{block}", into, width)
            into = width
        if level:
            yield from convolution(f"{decoder}.up.{level}.upsample.conv", width, width)
    yield from norm(f"{decoder}.norm_out", widths[0])
    yield from convolution(f"{decoder}.conv_out", 3, widths[0])


def text_encoder(size: Size) -> Shapes:
    yield f"{CLIP}.embeddings.token_embedding.weight", (49408, CONTEXT)
    yield f"{CLIP}.embeddings.position_embedding.weight", (77, CONTEXT)
    for layer in range(size.text_layers):
        name = f"{CLIP}.encoder.layers.{layer}"
        for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield from linear(f"{name}.self_attn.{projection}", CONTEXT, CONTEXT)
        yield from linear(f"{name}.mlp.fc1", TEXT_MLP, CONTEXT)
        yield from linear(f"{name}.mlp.fc2", CONTEXT, TEXT_MLP)
        yield from norm(f"{name}.layer_norm1", CONTEXT)
        yield from norm(f"{name}.layer_norm2", CONTEXT)
    yield from norm(f"{CLIP}.final_layer_norm", CONTEXT)


def shapes(size: Size) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from unet(size)
    yield from vae(size)
    yield from text_encoder(size)


def write(path: Path, seed: int, size: Size) -> Path:
    """A checkpoint as it is published, in fp16: one draw, turned for every tensor, as that is quick."""
    drawn = torch.randn(1 << 22, generator=torch.Generator().manual_seed(seed))
    tensors = {}
    for number, (name, shape) in enumerate(shapes(size)):
        count = torch.Size(shape).numel()
        values = drawn.roll(number * 9973).repeat(-(-count // drawn.numel()))[:count].reshape(shape)
        values = values * (0.7 / max(torch.Size(shape[1:]).numel(), 50) ** 0.5)
        if "norm" in name and name.endswith("weight"):
            values += 1
        tensors[name] = values.to(torch.float16)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path


def another(path: Path, of: Path) -> Path:
    """A checkpoint that is another one's, but for the signs of one layer."""
    name = f"{UNET}.input_blocks.0.0.weight"
    shutil.copyfile(of, path)
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        begin, end = json.loads(file.read(length))[name]["data_offsets"]
        file.seek(8 + length + begin)
        halves = bytearray(file.read(end - begin))
        halves[1::2] = bytes(each ^ 0x80 for each in halves[1::2])
        file.seek(8 + length + begin)
        file.write(halves)
    return path


def lora(path: Path, seed: int, rank: int = 4, layer: int = 3) -> Path:
    """For one attention of the UNet and one of the text encoder, under the names that trainers write."""
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    unet_block = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1"
    for name, size in (
        (f"{unet_block}_to_q", WIDTH),
        (f"{unet_block}_to_v", WIDTH),
        (f"lora_te_text_model_encoder_layers_{layer}_self_attn_q_proj", CONTEXT),
    ):
        tensors[f"{name}.lora_down.weight"] = torch.randn(rank, size, generator=random) * 0.1
        tensors[f"{name}.lora_up.weight"] = torch.randn(size, rank, generator=random) * 0.1
        tensors[f"{name}.alpha"] = torch.tensor(float(rank))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path
