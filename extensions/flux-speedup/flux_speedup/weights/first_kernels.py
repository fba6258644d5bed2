"""Kernels come to a card at their first use, and libraries with them: those of a Flux, before somebody waits.

Each operation runs once, on zeros, with FLUX.1's own widths at one megapixel: libraries choose kernels by shape.
What it needs in memory is let go again, but for the libraries' own workspaces, which the first image would take.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

ROOM = 4 << 30
"""Bytes that must be free on the card; half of it is used at most."""


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
    _text_encoders(device, shapes)
    _transformer(device, shapes)
    _vae(device, shapes)


def _linear(x: torch.Tensor, out: int) -> torch.Tensor:
    return functional.linear(x, x.new_zeros(out, x.shape[-1]), x.new_zeros(out))


def _text_encoders(device: torch.device, shapes: Shapes) -> None:
    width, inside = shapes.t5_width, shapes.t5_inside
    for dtype in (torch.float16, torch.float32, torch.bfloat16):
        x = torch.zeros(1, shapes.text, width, dtype=dtype, device=device)
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        q, k, v = (_heads(functional.linear(x, x.new_zeros(width, width)), width // 64) for _ in "qkv")
        scores = functional.softmax((q @ k.transpose(-1, -2)).float(), -1).to(dtype)
        x = x + functional.linear((scores @ v).transpose(1, 2).reshape(x.shape), x.new_zeros(width, width))
        gate, up = (functional.linear(x, x.new_zeros(inside, width)) for _ in "gu")
        functional.linear(functional.gelu(gate, approximate="tanh") * up, x.new_zeros(width, inside))
        clip = torch.zeros(1, 77, 768, dtype=dtype, device=device)
        _linear(functional.layer_norm(clip, (768,)), 3072)
        _words(device, dtype)


def _words(device: torch.device, dtype: torch.dtype) -> None:
    """What only text takes: tokens, and where they stand."""
    at = torch.arange(77, device=device)
    x = functional.embedding(at[None], torch.zeros(77, 768, dtype=dtype, device=device))
    x = x * torch.sigmoid(1.702 * x)
    mask = torch.full((77, 77), torch.finfo(dtype).min, device=device)
    mask = mask.masked_fill_(at < (at + 1).view(-1, 1), 0).to(dtype)[None, None]
    q = _heads(x, 12)
    for known in (None, mask):
        functional.scaled_dot_product_attention(q, q, q, attn_mask=known)
    apart = at[None] - at[:, None]
    far = (torch.log(torch.abs(apart).float() / 8) * 2).to(torch.long)
    far = torch.where(apart < 8, apart, torch.min(far, torch.full_like(far, 15)))
    functional.embedding(far.clamp_(0, 15), torch.zeros(16, 64, dtype=dtype, device=device))
    x.mean(), (apart > 0).to(torch.long), apart.argmax(-1)


def _transformer(device: torch.device, shapes: Shapes) -> None:
    width, tokens, text = shapes.width, shapes.tokens, shapes.text
    for rows in (tokens, text, tokens + text):
        x = torch.zeros(1, rows, width, dtype=torch.bfloat16, device=device)
        normed = functional.layer_norm(x, (width,), eps=1e-6)
        q, k, v = (_heads(each, shapes.heads) for each in _linear(normed, 3 * width).chunk(3, -1))
        q = (q.float() * torch.rsqrt(q.float().pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        del q, k, v
        x = x + _linear(attended, width)
        x = x + _linear(functional.gelu(_linear(x, 4 * width), approximate="tanh"), width)
        if rows > tokens:
            _linear(x, 7 * width)
            _linear(x.new_zeros(1, rows, 5 * width), width)
    for many in (6, 3, 2):
        _linear(functional.silu(x[:, 0]), many * width)
    _linear(x.new_zeros(1, tokens, 64), width)
    _linear(x.new_zeros(1, text, shapes.t5_width), width)
    _linear(x, 64)


def _vae(device: torch.device, shapes: Shapes) -> None:
    side = shapes.side
    x = torch.zeros(1, 16, side, side, dtype=torch.bfloat16, device=device)
    for channels in shapes.channels:
        x = functional.conv2d(x, x.new_zeros(channels, x.shape[1], 3, 3), x.new_zeros(channels), padding=1)
        x = functional.silu(functional.group_norm(x, min(32, channels), eps=1e-6))
        x = functional.conv2d(x, x.new_zeros(channels, channels, 3, 3), x.new_zeros(channels), padding=1)
        x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
    functional.conv2d(x, x.new_zeros(3, x.shape[1], 3, 3), x.new_zeros(3), padding=1)


def _heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.view(1, x.shape[1], heads, -1).transpose(1, 2)
