"""Safetensors files of random numbers, written by many threads from one random block: 24 GB take seconds."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from .shapes import Shapes

NAMES = {
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float32: "F32",
    torch.float8_e4m3fn: "F8_E4M3",
}
# Values in the block that all tensors take theirs from, each from a place of its own. Odd, so that no two rows of a
# matrix are alike before the block has gone round once for each of its columns.
BLOCK = (1 << 22) + 1
WRITERS = 16


@dataclass(frozen=True)
class Part:
    """A tensor in the file: where its bytes begin, how many there are, and what they are made from."""

    offset: int
    length: int
    first: int
    spread: float
    mean: float


def write(path: Path, shapes: Shapes, dtype: torch.dtype, seed: int) -> Path:
    """The file; one that is there with the same header and size is kept."""
    header, parts, size = _planned(shapes, dtype, seed)
    if path.exists() and path.stat().st_size == size:
        with path.open("rb") as file:
            if file.read(len(header)) == header:
                return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(size)
    noise = torch.randn(BLOCK, generator=torch.Generator().manual_seed(seed))
    kinds = {(part.spread, part.mean) for part in parts}
    blocks = {
        kind: (noise * kind[0] + kind[1]).to(dtype).view(torch.uint8).numpy().tobytes() for kind in kinds
    }
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda part: _fill(path, part, blocks[part.spread, part.mean]), parts))
    return path


def _planned(shapes: Shapes, dtype: torch.dtype, seed: int) -> tuple[bytes, list[Part], int]:
    """The header's bytes, every tensor's place in the file, and the file's size."""
    content: dict[str, object] = {"__metadata__": {"seed": str(seed)}}
    parts, position = [], 0
    for number, (name, shape) in enumerate(shapes):
        length = math.prod(shape) * dtype.itemsize
        content[name] = {
            "dtype": NAMES[dtype],
            "shape": list(shape),
            "data_offsets": [position, position + length],
        }
        first = (seed * 104_729 + number * 7_919) % BLOCK * dtype.itemsize
        parts.append(Part(position, length, first, *_spread(name, shape)))
        position += length
    raw = json.dumps(content).encode()
    raw += b" " * (-len(raw) % 8)
    header = len(raw).to_bytes(8, "little") + raw
    placed = [Part(len(header) + p.offset, p.length, p.first, p.spread, p.mean) for p in parts]
    return header, placed, len(header) + position


def _spread(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Standard deviation and mean under which what goes through dozens of layers stays finite."""
    if not shape:
        return 0.0, 4.0  # a LoRA's alpha: a quarter of its rank
    if "norm" in name and name.endswith(("weight", "scale")):
        return 0.1, 1.0
    return (math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.02), 0.0


def _fill(path: Path, part: Part, block: bytes) -> None:
    view = memoryview(block)
    with path.open("r+b", buffering=0) as file:
        file.seek(part.offset)
        left, start = part.length, part.first
        while left:
            wrote = file.write(view[start : start + left])
            left -= wrote
            start = (start + wrote) % len(view)
