"""A packed file: the packed forms of one weight file's tensors, and an index of them behind.

What is small and gains nothing is in it as it is, so that one file is read, from its begin to its end; what is
large and gains nothing is not in it. The index has a sha256, and the file's name, which stands for the weight
file's content (bound.py); each tensor has a checksum (decoding.py), which is looked at on the device.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..errors import HeaderError
from ..files.header import TensorEntry
from .form import ALIGN, Form

MAGIC = b"FSUPACK1"
SMALL = 1 << 20
"""Bytes: what is smaller is there, whether it gains or not."""
LEAST = 0.1
"""The share of a file that packing must save."""
_END = struct.Struct("<QQ32s8s")  # where the index is, its bytes, their sha256
_LARGEST_INDEX = 64 << 20


@dataclass(frozen=True)
class Entry:
    """What is at `source` in the weight file is here at `offset`, in this form."""

    source: int
    offset: int
    form: Form
    checksum: int

    @property
    def end(self) -> int:
        return self.offset + self.form.length

    def row(self) -> list[int]:
        """As the index has it."""
        return [self.source, self.offset, self.form.size, self.form.escapes, self.checksum]

    @classmethod
    def of(cls, row: Iterable[Any]) -> Entry:
        """Raises ValueError where that is none."""
        numbers = list(row)
        if len(numbers) != 5 or any(type(number) is not int for number in numbers):
            raise ValueError("an entry is 5 whole numbers")
        source, offset, size, escapes, total = numbers
        form = Form(size, escapes)
        if not form.is_possible() or min(source, offset) < 0 or offset % ALIGN:
            raise ValueError("an entry's numbers do not belong together")
        return cls(source, offset, form, total)


def write(file: BinaryIO, content: bytes | memoryview) -> None:
    """All of it, where the file is. Raises OSError."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def write_index(file: BinaryIO, name: str, entries: Iterable[Entry]) -> None:
    """At the file's end, which is where it is; `name`: what the file is going to be called. Raises OSError."""
    raw = json.dumps({"name": name, "tensors": [entry.row() for entry in entries]}).encode()
    offset = file.seek(0, 2)
    write(file, raw + _END.pack(offset, len(raw), hashlib.sha256(raw).digest(), MAGIC))


def read_index(file: BinaryIO, size: int, path: Path) -> dict[int, Entry]:
    """Of an open packed file of `size` bytes, its entries by their `source`. Raises HeaderError."""
    if size < len(MAGIC) + _END.size:
        raise HeaderError(path, "too short for a packed file")
    file.seek(size - _END.size)
    offset, length, digest, magic = _END.unpack(file.read(_END.size))
    if magic != MAGIC or length > _LARGEST_INDEX or offset + length + _END.size != size:
        raise HeaderError(path, "not a whole packed file")
    file.seek(offset)
    raw = file.read(length)
    if hashlib.sha256(raw).digest() != digest:
        raise HeaderError(path, "its index is damaged")
    try:
        found = json.loads(raw)
        name, entries = found["name"], [Entry.of(row) for row in found["tensors"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HeaderError(path, f"its index is of another kind ({error})") from error
    if name != path.stem or any(entry.end > offset for entry in entries):
        raise HeaderError(path, "its index is that of another file")
    return {entry.source: entry for entry in entries}


def packs(tensors: Iterable[TensorEntry]) -> tuple[int, int] | None:
    """Bytes of these tensors, and about how many a packed file of them has; None where that hardly saves any."""
    sizes = [(entry.length, entry.dtype is torch.bfloat16) for entry in tensors]
    whole = sum(size for size, _ in sizes)
    saved = sum(size for size, gains in sizes if gains) // 4
    return (whole, whole - saved) if saved and saved >= LEAST * whole else None
