"""What the tensors of a file consist of, by the form that people have them in: plain, fp8 all in one, GGUF, NF4."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from . import shapes
from .shapes import Shapes, Size

# Values in the block that all tensors take theirs from, each from a place of its own. Odd, so that no two rows of a
# matrix are alike before the block has gone round once for each of its columns.
BLOCK = (1 << 22) + 1
NF4 = (-1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.091050036, 0.0)
NF4 += (0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0)


class Source(Protocol):
    """What bytes are made from, over and over; `unit`: how many belong together."""

    @property
    def unit(self) -> int: ...

    def made(self, noise: torch.Tensor) -> bytes: ...


@dataclass(frozen=True)
class Tensor:
    """A tensor in a file; `dtype` as its file names it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    length: int
    source: Source


@dataclass(frozen=True)
class Values:
    """Random numbers of one dtype."""

    dtype: torch.dtype
    spread: float
    mean: float = 0.0

    @property
    def unit(self) -> int:
        return self.dtype.itemsize

    def made(self, noise: torch.Tensor) -> bytes:
        raw: bytes = (noise * self.spread + self.mean).to(self.dtype).view(torch.uint8).numpy().tobytes()
        return raw


@dataclass(frozen=True)
class Given:
    """These bytes."""

    raw: bytes

    @property
    def unit(self) -> int:
        return len(self.raw)

    def made(self, noise: torch.Tensor) -> bytes:
        return self.raw


@dataclass(frozen=True)
class Quantised:
    """Random bytes behind their scales. kind: "Q8_0", "Q4_K", or "NF4", which has its scales elsewhere."""

    kind: str
    spread: float

    @property
    def unit(self) -> int:
        return QUANTISED[self.kind][1]

    def made(self, noise: torch.Tensor) -> bytes:
        # Steps, and how many of them are a standard deviation; where bytes stand for negative ones, none is wanted.
        steps = {"Q8_0": 74.0, "Q4_K": 190.0, "NF4": 1.0}[self.kind]
        random = torch.frombuffer(
            bytearray(noise.view(torch.uint8).numpy()[::4].tobytes()), dtype=torch.uint8
        )
        blocks = random[: len(random) // self.unit * self.unit].reshape(-1, self.unit).clone()
        step = self.spread / steps
        scales = {"Q8_0": (step,), "Q4_K": (step, 7.5 * step), "NF4": ()}[self.kind]
        if scales:
            blocks[:, : 2 * len(scales)] = torch.tensor(scales, dtype=torch.float16).view(torch.uint8)
        raw: bytes = blocks.numpy().tobytes()
        return raw


# Weights of a block, its bytes, and its number in GGUF files.
QUANTISED = {"Q8_0": (32, 34, 8), "Q4_K": (256, 144, 12), "NF4": (64, 32, -1)}
DTYPES = {
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float32: "F32",
    torch.float8_e4m3fn: "F8_E4M3",
}


def plain(listed: Shapes, dtype: torch.dtype) -> Iterator[Tensor]:
    for name, shape in listed:
        source = Values(dtype, *_spread(name, shape))
        yield Tensor(name, shape, DTYPES[dtype], math.prod(shape) * dtype.itemsize, source)


def gguf(listed: Shapes, kind: str) -> Iterator[Tensor]:
    """Matrices quantised where their rows are whole blocks, the rest in fp32."""
    of, taken, _ = QUANTISED[kind]
    for name, shape in listed:
        if len(shape) == 2 and shape[1] % of == 0:
            source = Quantised(kind, _spread(name, shape)[0])
            yield Tensor(name, shape, kind, math.prod(shape) // of * taken, source)
        else:
            yield from plain(iter([(name, shape)]), torch.float32)


def nf4(listed: Shapes) -> Iterator[Tensor]:
    """Matrices as bitsandbytes packs them, with scales in fp32; the rest in bf16."""
    for name, shape in listed:
        if len(shape) != 2:
            yield from plain(iter([(name, shape)]), torch.bfloat16)
            continue
        count, spread = math.prod(shape), _spread(name, shape)[0]
        state = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": list(shape)}
        raw = json.dumps(state).encode()
        book = torch.tensor(NF4).view(torch.uint8).numpy().tobytes()
        yield Tensor(name, (count // 2, 1), "U8", count // 2, Quantised("NF4", spread))
        scales = -(-count // 64)
        yield Tensor(
            f"{name}.absmax", (scales,), "F32", 4 * scales, Values(torch.float32, spread / 20, spread / 0.55)
        )
        yield Tensor(f"{name}.quant_map", (16,), "F32", 64, Given(book))
        yield Tensor(f"{name}.quant_state.bitsandbytes__nf4", (len(raw),), "U8", len(raw), Given(raw))


def all_in_one(size: Size, dtype: torch.dtype) -> Iterator[Tensor]:
    """Transformer and text encoders in one dtype, the VAE in fp32, as they are published in one file."""
    parts = {
        "model.diffusion_model.": (shapes.transformer(size), dtype),
        "vae.": (shapes.vae(size), torch.float32),
        "text_encoders.clip_l.transformer.": (shapes.clip(size), dtype),
        "text_encoders.t5xxl.transformer.": (shapes.t5(size), dtype),
    }
    for prefix, (listed, own) in parts.items():
        yield from plain(((prefix + name, shape) for name, shape in listed), own)


def _spread(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Standard deviation and mean under which what goes through dozens of layers stays finite."""
    if not shape:
        return 0.0, 4.0  # a LoRA's alpha: a quarter of its rank
    if "norm" in name and name.endswith(("weight", "scale")):
        return 0.1, 1.0
    return (math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.02), 0.0
