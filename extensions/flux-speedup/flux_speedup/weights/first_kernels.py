"""Kernels come to a card at their first use, and libraries with them: those of a Flux, before somebody waits.

Each operation of an image runs once, on zeros, with FLUX.1's own widths at one megapixel: libraries choose kernels
by shape. Text encoders compute in fp32, whatever their weights are in; the rest in bf16. What it needs in memory is
let go again, but for the kernels and the libraries' own workspaces, which the first image would take.
`tests/attacks/test_models_on_forge.py` compares it with what a Forge does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

ROOM = 4 << 30
"""Bytes that must be free on the card; half of it is used at most."""
_CLIP_TOKENS, _CLIP_WIDTH = 77, 768
_BF16, _FP32, _FP64 = torch.bfloat16, torch.float32, torch.float64


@dataclass(frozen=True)
class Shapes:
    """Tokens of picture and text, widths of transformer and T5, heads, channels and first side of the VAE."""

    tokens: int = 4096
    text: int = 256
    width: int = 3072
    heads: int = 24
    t5_width: int = 4096
    t5_inside: int = 10240
    channels: tuple[int, ...] = (512, 256, 128)
    side: int = 128


def has_room(module: Any, device: torch.device) -> bool:
    """Whether so much is free on a device of `module` (torch.cuda or its like) as far as that is known."""
    ask = getattr(module, "mem_get_info", None)
    return ask is not None and ask(device)[0] >= ROOM


@torch.inference_mode()
def use_once(device: torch.device, shapes: Shapes | None = None) -> None:
    """In the order in which an image needs them. Raises RuntimeError, torch.OutOfMemoryError."""
    shapes = shapes or Shapes()
    _clip(device)
    _t5(device, shapes)
    _transformer(device, shapes)
    _sampling(device, shapes)
    _vae(device, shapes)


def _clip(device: torch.device) -> None:
    width = _CLIP_WIDTH
    ids = torch.zeros(1, _CLIP_TOKENS, dtype=torch.int64, device=device)
    at = torch.arange(_CLIP_TOKENS, device=device)
    table = torch.zeros(_CLIP_TOKENS, width, device=device)
    x = functional.embedding(ids, table) + functional.embedding(at[None], table)
    mask = torch.full((_CLIP_TOKENS, _CLIP_TOKENS), torch.finfo(_FP32).min, device=device)
    mask.masked_fill_(at < (at + 1).view(-1, 1), 0)
    half = torch.zeros(width, dtype=torch.float16, device=device).to(_FP32)
    x = functional.layer_norm(x, (width,), half, half)
    q = _heads(_linear(x, width), 12)
    functional.scaled_dot_product_attention(q, q, q, attn_mask=mask[None, None])
    x = _linear(x, 4 * width)
    x = _linear(x * torch.sigmoid(1.702 * x), width)
    _ = x[at[:1], ids.to(torch.int32).argmax(-1)]
    before = x.mean()
    x = torch.cat([x * torch.ones(1, _CLIP_TOKENS, 1, device=device)], 1) * (before / x.mean())


def _t5(device: torch.device, shapes: Shapes) -> None:
    width, inside, text = shapes.t5_width, shapes.t5_inside, shapes.text
    x = torch.zeros(1, text, width, device=device)
    mask = _distances(device, text, width // 64)
    normed = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
    q, k, v = (_heads(functional.linear(normed, x.new_zeros(width, width)), width // 64) for _ in "qkv")
    attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    x = x + functional.linear(attended.transpose(1, 2).reshape(x.shape), x.new_zeros(width, width))
    gate, up = (functional.linear(x, x.new_zeros(inside, width)) for _ in "gu")
    x += functional.linear(functional.gelu(gate, approximate="tanh") * up, x.new_zeros(width, inside))
    torch.stack([torch.nan_to_num(x)[0]])


def _distances(device: torch.device, text: int, heads: int) -> torch.Tensor:
    """What T5's attention adds for how far words stand apart."""
    at = torch.arange(text, device=device)
    apart = at[None] - at[:, None]
    far = (torch.log(torch.abs(apart).float() / 8) * 2).to(torch.int64) + 8
    far = torch.min(far, torch.full_like(far, 15))
    bucket = (apart > 0).to(torch.int64) * 16
    bucket += torch.where(torch.abs(apart) < 8, torch.abs(apart), far)
    return functional.embedding(bucket.clamp_(0, 31), torch.zeros(32, heads, device=device)).permute(2, 0, 1)[
        None
    ]


def _transformer(device: torch.device, shapes: Shapes) -> None:
    width, tokens, text = shapes.width, shapes.tokens, shapes.text
    latent = torch.zeros(1, 16, 2 * math.isqrt(tokens), 2 * math.isqrt(tokens), device=device).to(_BF16)
    functional.pad(latent, (0, 1, 0, 1), mode="circular")
    turns = _turns(device, tokens + text, width // shapes.heads)
    for rows in (tokens, text, tokens + text):
        x = torch.zeros(1, rows, width, dtype=_BF16, device=device)
        shift = functional.silu(x[:, 0])[:, None]
        normed = (1 + shift) * functional.layer_norm(x, (width,), eps=1e-6) + shift
        q, k, v = (_heads(each, shapes.heads) for each in _linear(normed, 3 * width).chunk(3, -1))
        q, k = (_turned(_rms_norm(each), turns[:, :, :rows]) for each in (q, k))
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        del q, k, v
        x = x + shift * _linear(attended, width)
        x = x + shift * _linear(functional.gelu(_linear(x, 4 * width), approximate="tanh"), width)
        if rows > tokens:
            _linear(x, 7 * width)
            _linear(torch.cat((x, x.new_zeros(1, rows, 4 * width)), 2), width)
    torch.cat((x[:, :text], x[:, text:]), 1)
    for many in (6, 3, 2):
        _linear(functional.silu(x[:, 0]), many * width)
    _linear(x.new_zeros(1, tokens, 64), width)
    _linear(x.new_zeros(1, text, shapes.t5_width), width)
    _linear(x, 64)


def _turns(device: torch.device, rows: int, head: int) -> torch.Tensor:
    """What tells a head where a token stands, and the transformer how far sampling is."""
    time = 1000 * torch.zeros(1, device=device).to(_BF16)
    steps = torch.exp(-math.log(10000) * torch.arange(start=0, end=128, dtype=_FP32, device=device) / 128)
    angles = time[:, None].float() * steps[None]
    torch.cat([torch.cos(angles), torch.sin(angles)], -1).to(_BF16)
    at = torch.zeros(1, rows, 1, dtype=_BF16, device=device)
    at += torch.linspace(0, 1, steps=rows, dtype=_BF16, device=device)[None, :, None]
    speeds = 1.0 / 10000 ** (torch.arange(0, head, 2, dtype=_FP64, device=device) / head)
    angle = torch.cat((at, at), 1)[:, :rows] * speeds
    cos, sin = torch.cos(angle), torch.sin(angle)
    found = torch.stack([cos, -sin, sin, cos], -1).view(1, rows, -1, 2, 2).float()
    return torch.cat((found[:, :, :1], found[:, :, 1:]), 2)[:, None]


def _rms_norm(x: torch.Tensor) -> torch.Tensor:
    width = x.shape[-1]
    if hasattr(functional, "rms_norm"):
        return functional.rms_norm(x, (width,), x.new_ones(width), 1e-6)
    return (x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


def _turned(x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    pairs = x.float().reshape(*x.shape[:-1], -1, 1, 2)
    return (turns[..., 0] * pairs[..., 0] + turns[..., 1] * pairs[..., 1]).reshape(x.shape).type_as(x)


def _sampling(device: torch.device, shapes: Shapes) -> None:
    side = shapes.side
    x = torch.randn(1, 16, side, side).to(device)
    sigma = torch.ones(1, device=device)
    guessed = x - x.to(_BF16).float() * sigma.view(-1, 1, 1, 1)
    slope = (x - guessed) / sigma.view(-1, 1, 1, 1)
    x = x + slope * (sigma[0] - sigma[0])
    torch.clamp((x / 0.36 + 0.12 + 1.0) / 2.0 - 0.5, min=0.0, max=1.0)


def _vae(device: torch.device, shapes: Shapes) -> None:
    side = shapes.side
    x = torch.zeros(1, 16, side, side, dtype=_BF16, device=device)
    for channels in shapes.channels:
        x = functional.conv2d(x, x.new_zeros(channels, x.shape[1], 3, 3), x.new_zeros(channels), padding=1)
        scale = x.new_zeros(channels)
        normed = functional.group_norm(x, min(32, channels), scale, scale, eps=1e-6)
        x = x + functional.silu(normed, inplace=True) + normed * torch.sigmoid(normed)
        x = functional.conv2d(x, x.new_zeros(channels, channels, 3, 3), x.new_zeros(channels), padding=1)
        if channels == shapes.channels[0]:
            flat = torch.zeros_like(x[:, :, :8, :8].flatten(2)).transpose(1, 2)[:, None].contiguous()
            functional.scaled_dot_product_attention(flat, flat, flat)
        x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
    pixels = functional.conv2d(x, x.new_zeros(3, x.shape[1], 3, 3), x.new_zeros(3), padding=1)
    torch.clamp((pixels.float() + 1.0) / 2.0, min=0.0, max=1.0).movedim(1, -1).contiguous()


def _linear(x: torch.Tensor, out: int) -> torch.Tensor:
    return functional.linear(x, x.new_zeros(out, x.shape[-1]), x.new_zeros(out))


def _heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.view(1, x.shape[1], heads, -1).transpose(1, 2)
