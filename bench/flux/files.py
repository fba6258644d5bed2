"""Files of random weights, written by many threads from one random block: 24 GB take seconds."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from . import forms
from .forms import QUANTISED, Source, Tensor

WRITERS = 16
ALIGNED = 32  # in GGUF files


@dataclass(frozen=True)
class Part:
    """A tensor in the file: where its bytes begin, how many there are, and what they are made from."""

    offset: int
    length: int
    first: int
    source: Source


def write(path: Path, tensors: Iterable[Tensor], seed: int) -> Path:
    """The file, as its name ends; one that is there with the same header and size is kept."""
    laid_out, listed = (
        (_gguf, list(tensors)) if path.suffix == ".gguf" else (_safetensors, _in_order(tensors))
    )
    header, parts, size = _planned(listed, seed, laid_out)
    if path.exists() and path.stat().st_size == size:
        with path.open("rb") as file:
            if file.read(len(header)) == header:
                return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(size)
    noise = torch.randn(forms.BLOCK, generator=torch.Generator().manual_seed(seed))
    blocks = {source: source.made(noise) for source in {part.source for part in parts}}
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda part: _fill(path, part, blocks[part.source]), parts))
    return path


def _in_order(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Those of many bytes an element first, as the safetensors library writes them: all are aligned then."""
    return sorted(tensors, key=lambda tensor: -tensor.length // (math.prod(tensor.shape) or 1))


def _planned(
    tensors: list[Tensor], seed: int, laid_out: Callable[[list[Tensor], int, list[int]], bytes]
) -> tuple[bytes, list[Part], int]:
    """The header's bytes, every tensor's place in the file, and the file's size."""
    offsets, position = [], 0
    for tensor in tensors:
        offsets.append(position)
        position += tensor.length + (-tensor.length % ALIGNED if laid_out is _gguf else 0)
    header = laid_out(tensors, seed, offsets)
    parts = [
        Part(len(header) + offset, tensor.length, _first(seed, number, tensor.source), tensor.source)
        for number, (tensor, offset) in enumerate(zip(tensors, offsets, strict=True))
    ]
    return header, parts, len(header) + position


def _first(seed: int, number: int, source: Source) -> int:
    if isinstance(source, forms.Given):
        return 0
    return (seed * 104_729 + number * 7_919) % forms.BLOCK * source.unit


def _safetensors(tensors: list[Tensor], seed: int, offsets: list[int]) -> bytes:
    content: dict[str, object] = {"__metadata__": {"seed": str(seed)}}
    for tensor, offset in zip(tensors, offsets, strict=True):
        content[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.length],
        }
    raw = json.dumps(content).encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw


def _gguf(tensors: list[Tensor], seed: int, offsets: list[int]) -> bytes:
    raw = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), 2)
    for key, value in (("general.architecture", "flux"), ("general.name", f"random, seed {seed}")):
        raw += _text(key) + struct.pack("<I", 8) + _text(value)
    for tensor, offset in zip(tensors, offsets, strict=True):
        number = QUANTISED[tensor.dtype][2] if tensor.dtype in QUANTISED else 0
        sizes = tensor.shape[::-1]
        raw += _text(tensor.name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, number, offset)
    return raw + bytes(-len(raw) % ALIGNED)


def _text(words: str) -> bytes:
    return struct.pack("<Q", len(words)) + words.encode()


def _fill(path: Path, part: Part, block: bytes) -> None:
    view = memoryview(block)
    with path.open("r+b", buffering=0) as file:
        file.seek(part.offset)
        left, start = part.length, part.first % len(view)
        while left:
            wrote = file.write(view[start : start + left])
            left -= wrote
            start = (start + wrote) % len(view)
