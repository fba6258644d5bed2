"""A packed file: the packed forms of one weight file's tensors, and an index of them behind.

What is small and gains nothing is in it as it is, so that one file is read, from its begin to its end; what is
large and gains nothing is not in it. The index has a sha256, and says which file it is of; each tensor has a
checksum (decoding.py), which is looked at on the device.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import HeaderError
from ..files.header import Header, TensorEntry
from ..files.identity import FileIdentity
from .form import ALIGN, RAW, Form

MAGIC = b"FSUPACK1"
SMALL = 1 << 20
"""Bytes: what is smaller is there, whether it gains or not."""
_END = struct.Struct("<QQ32s8s")  # where the index is, its bytes, their sha256
_LARGEST_INDEX = 64 << 20


@dataclass(frozen=True)
class Entry:
    """The bytes `source` to `source` + `size` of the weight file are here, at `offset`, in this form."""

    source: int
    size: int
    offset: int
    form: Form
    checksum: int

    def row(self) -> list[int]:
        """As the index has it."""
        return [self.source, self.size, self.offset, *astuple(self.form), self.checksum]

    @classmethod
    def of(cls, row: Iterable[Any]) -> Entry:
        """Raises ValueError where that is none."""
        numbers = list(row)
        if len(numbers) != 7 or any(type(number) is not int for number in numbers):
            raise ValueError("an entry is 7 whole numbers")
        source, size, offset, weights, escapes, length, total = numbers
        form = Form(weights, escapes, length)
        fits = size == (length if escapes == RAW else 2 * weights)
        if not fits or not form.is_possible() or min(source, offset) < 0 or offset % ALIGN:
            raise ValueError("an entry's numbers do not belong together")
        return cls(source, size, offset, form, total)


@dataclass(frozen=True)
class Index:
    """`size`, `sample`: of the weight file."""

    size: int
    sample: str
    entries: tuple[Entry, ...]

    def is_of(self, identity: FileIdentity) -> bool:
        """Whether it is of a file with such content, as far as a look at it tells."""
        return (self.size, self.sample) == (identity.size, identity.sample)


def write_index(file: BinaryIO, index: Index) -> None:
    """At the file's end, which is where it is. Raises OSError."""
    content: dict[str, object] = {"size": index.size, "sample": index.sample}
    content["tensors"] = [entry.row() for entry in index.entries]
    raw = json.dumps(content).encode()
    offset = file.seek(0, 2)
    file.write(raw + _END.pack(offset, len(raw), hashlib.sha256(raw).digest(), MAGIC))


def read_index(file: BinaryIO, file_size: int, path: Path) -> Index:
    """Of an open packed file. Raises HeaderError."""
    if file_size < len(MAGIC) + _END.size:
        raise HeaderError(path, "too short for a packed file")
    file.seek(file_size - _END.size)
    offset, length, digest, magic = _END.unpack(file.read(_END.size))
    if magic != MAGIC or length > _LARGEST_INDEX or offset + length + _END.size != file_size:
        raise HeaderError(path, "not a whole packed file")
    file.seek(offset)
    raw = file.read(length)
    if hashlib.sha256(raw).digest() != digest:
        raise HeaderError(path, "its index is damaged")
    try:
        content = json.loads(raw)
        entries = tuple(Entry.of(row) for row in content["tensors"])
        index = Index(int(content["size"]), str(content["sample"]), entries)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HeaderError(path, f"its index is of another kind ({error})") from error
    if any(entry.offset + entry.form.length > offset for entry in entries):
        raise HeaderError(path, "its index names bytes that are not there")
    return index


def header_of(file_size: int) -> Header:
    """What the registry of mapped files is told: nobody gets views of it by name."""
    return Header({}, {}, 0, file_size)


def worth_packing(tensors: Iterable[TensorEntry]) -> tuple[int, int]:
    """Bytes of these tensors, and about how many of them packing saves."""
    import torch

    sizes = [(entry.length, entry.dtype is torch.bfloat16) for entry in tensors]
    return sum(size for size, _ in sizes), sum(size for size, gains in sizes if gains) // 4
