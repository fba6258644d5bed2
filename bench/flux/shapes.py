"""The names and shapes of the tensors of FLUX.1's four files and of a LoRA for it, for a model of any size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

Shapes = Iterator[tuple[str, tuple[int, ...]]]

POOLED, HEAD, LATENT = 768, 128, 16


@dataclass(frozen=True)
class Size:
    """How wide and deep the parts are; CLIP is always as wide as CLIP-L."""

    hidden: int
    context: int
    depth: int
    single_depth: int
    t5_layers: int
    t5_inner: int
    t5_ff: int
    t5_heads: int
    clip_layers: int
    channels: tuple[int, int, int, int]


REAL = Size(3072, 4096, 19, 38, 24, 4096, 10240, 64, 12, (128, 256, 512, 512))
QUARTER = Size(3072, 4096, 5, 9, 6, 4096, 10240, 64, 3, (128, 256, 512, 512))
"""Layers of the real size, a quarter as many."""
TINY = Size(384, 256, 2, 2, 2, 256, 512, 4, 2, (32, 64, 128, 128))


def linear(name: str, out: int, into: int) -> Shapes:
    yield f"{name}.weight", (out, into)
    yield f"{name}.bias", (out,)


def transformer(size: Size) -> Shapes:
    hidden = size.hidden
    yield from linear("img_in", hidden, 4 * LATENT)
    for name, into in (("time_in", 256), ("vector_in", POOLED), ("guidance_in", 256)):
        yield from linear(f"{name}.in_layer", hidden, into)
        yield from linear(f"{name}.out_layer", hidden, hidden)
    yield from linear("txt_in", hidden, size.context)
    for block in range(size.depth):
        for stream in ("img", "txt"):
            name = f"double_blocks.{block}.{stream}"
            yield from linear(f"{name}_mod.lin", 6 * hidden, hidden)
            yield from linear(f"{name}_attn.qkv", 3 * hidden, hidden)
            yield f"{name}_attn.norm.query_norm.scale", (HEAD,)
            yield f"{name}_attn.norm.key_norm.scale", (HEAD,)
            yield from linear(f"{name}_attn.proj", hidden, hidden)
            yield from linear(f"{name}_mlp.0", 4 * hidden, hidden)
            yield from linear(f"{name}_mlp.2", hidden, 4 * hidden)
    for block in range(size.single_depth):
        name = f"single_blocks.{block}"
        yield from linear(f"{name}.linear1", 7 * hidden, hidden)
        yield from linear(f"{name}.linear2", hidden, 5 * hidden)
        yield f"{name}.norm.query_norm.scale", (HEAD,)
        yield f"{name}.norm.key_norm.scale", (HEAD,)
        yield from linear(f"{name}.modulation.lin", 3 * hidden, hidden)
    yield from linear("final_layer.linear", 4 * LATENT, hidden)
    yield from linear("final_layer.adaLN_modulation.1", 2 * hidden, hidden)


def t5(size: Size) -> Shapes:
    yield "shared.weight", (32128, size.context)
    for block in range(size.t5_layers):
        attention, ff = (f"encoder.block.{block}.layer.{n}" for n in (0, 1))
        for name in "qkv":
            yield f"{attention}.SelfAttention.{name}.weight", (size.t5_inner, size.context)
        yield f"{attention}.SelfAttention.o.weight", (size.context, size.t5_inner)
        if block == 0:
            yield f"{attention}.SelfAttention.relative_attention_bias.weight", (32, size.t5_heads)
        for name in ("wi_0", "wi_1"):
            yield f"{ff}.DenseReluDense.{name}.weight", (size.t5_ff, size.context)
        yield f"{ff}.DenseReluDense.wo.weight", (size.context, size.t5_ff)
        yield f"{attention}.layer_norm.weight", (size.context,)
        yield f"{ff}.layer_norm.weight", (size.context,)
    yield "encoder.final_layer_norm.weight", (size.context,)


def clip(size: Size) -> Shapes:
    yield "text_model.embeddings.token_embedding.weight", (49408, POOLED)
    yield "text_model.embeddings.position_embedding.weight", (77, POOLED)
    for layer in range(size.clip_layers):
        name = f"text_model.encoder.layers.{layer}"
        for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield from linear(f"{name}.self_attn.{projection}", POOLED, POOLED)
        yield from linear(f"{name}.mlp.fc1", 4 * POOLED, POOLED)
        yield from linear(f"{name}.mlp.fc2", POOLED, 4 * POOLED)
        yield from norm(f"{name}.layer_norm1", POOLED)
        yield from norm(f"{name}.layer_norm2", POOLED)
    yield from norm("text_model.final_layer_norm", POOLED)


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


def middle(name: str, size: int) -> Shapes:
    yield from residual(f"{name}.mid.block_1", size, size)
    yield from norm(f"{name}.mid.attn_1.norm", size)
    for projection in ("q", "k", "v", "proj_out"):
        yield from convolution(f"{name}.mid.attn_1.{projection}", size, size, 1)
    yield from residual(f"{name}.mid.block_2", size, size)


def vae(size: Size) -> Shapes:
    channels = size.channels
    yield from convolution("encoder.conv_in", channels[0], 3)
    into = channels[0]
    for level, width in enumerate(channels):
        for block in range(2):
            yield from residual(f"encoder.down.{level}.block.{block}", into, width)
            into = width
        if level < len(channels) - 1:
            yield from convolution(f"encoder.down.{level}.downsample.conv", width, width)
    yield from middle("encoder", channels[-1])
    yield from norm("encoder.norm_out", channels[-1])
    yield from convolution("encoder.conv_out", 2 * LATENT, channels[-1])
    yield from convolution("decoder.conv_in", channels[-1], LATENT)
    yield from middle("decoder", channels[-1])
    into = channels[-1]
    for level, width in reversed(list(enumerate(channels))):
        for block in range(3):
            yield from residual(f"decoder.up.{level}.block.{block}", into, width)
            into = width
        if level:
            yield from convolution(f"decoder.up.{level}.upsample.conv", width, width)
    yield from norm("decoder.norm_out", channels[0])
    yield from convolution("decoder.conv_out", 3, channels[0])


def lora(size: Size, rank: int) -> Shapes:
    """For every matrix of the transformer's blocks, named as the original trainers name it."""
    for name, shape in transformer(size):
        if "_blocks." not in name or len(shape) != 2:
            continue
        key = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
        yield f"{key}.lora_down.weight", (rank, shape[1])
        yield f"{key}.lora_up.weight", (shape[0], rank)
        yield f"{key}.alpha", ()
