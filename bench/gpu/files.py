"""Safetensors files with FLUX.1-dev's shapes and random weights."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import torch

from measure.output import say

NAMES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


def write_files(
    folder: Path, tensors: dict[str, Any], scale: float, components: list[str]
) -> dict[str, Path]:
    """A safetensors file a component, random normal weights; one there in the right size is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for component in components:
        spec = tensors[component]
        dtype = getattr(torch, spec["dtype"])
        shapes = {name: scaled(shape, scale) for name, shape in spec["tensors"].items()}
        paths[component] = folder / f"bench-{component}-{scale:g}.safetensors"
        start = time.perf_counter()
        size = write_file(paths[component], shapes, dtype)
        took = time.perf_counter() - start
        say(f"{paths[component]}: {size / 1e9:.2f} GB, {len(shapes)} tensors, {took:.1f} s")
    return paths


def scaled(shape: list[int], scale: float) -> list[int]:
    if len(shape) < 2 or scale == 1.0:
        return list(shape)
    return [max(1, round(shape[0] * scale)), *shape[1:]]


def write_file(path: Path, shapes: dict[str, list[int]], dtype: torch.dtype) -> int:
    """The file's size in bytes, written or there already."""
    content: dict[str, Any] = {}
    position = 0
    for name, shape in shapes.items():
        length = math.prod(shape) * dtype.itemsize
        offsets = [position, position + length]
        content[name] = {"dtype": NAMES[str(dtype)[6:]], "shape": shape, "data_offsets": offsets}
        position += length
    header = json.dumps(content).encode()
    header += b" " * (-len(header) % 8)
    total = 8 + len(header) + position
    if path.exists() and path.stat().st_size == total:
        return total
    # So small that what a model computes with them stays finite.
    pool = torch.randn(1 << 24).mul_(0.02).to(dtype).view(torch.uint8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for number, entry in enumerate(content.values()):
            begin, end = entry["data_offsets"]
            start = number * 7919 * dtype.itemsize % (pool.numel() // 2)
            while begin < end:
                piece = pool[start : start + min(end - begin, pool.numel() - start)]
                file.write(memoryview(piece.numpy()))
                begin += piece.numel()
                start = 0
        file.flush()
        os.fsync(file.fileno())
    return total
