"""The safetensors header: parsed within bounds and checked whole before anybody trusts an offset in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from ..errors import HeaderError
from .header_json import Fields, NotAsAsked, decode

MAX_HEADER_BYTES = 100_000_000
_LENGTH_BYTES = 8
_MOST = 1 << 64

_TORCH_NAMES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F4": "float4_e2m1fn_x2",
}
BITS: Mapping[str, int] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
}
"""Bits of an element, of every dtype that the safetensors library knows (0.8.0)."""
DTYPES: Mapping[str, torch.dtype] = {
    name: getattr(torch, attribute) for name, attribute in _TORCH_NAMES.items() if hasattr(torch, attribute)
}
"""Those that this PyTorch has."""


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file; `offset` counts bytes from the start of the file, `length` is in bytes.

    What PyTorch has no dtype for is its bytes, in one dimension.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    length: int

    @property
    def aligned(self) -> bool:
        """Whether its elements can be used where they lie in the file."""
        return self.offset % self.dtype.itemsize == 0


@dataclass(frozen=True)
class Header:
    """A checked header: its tensors by name in file order, their bytes covering the data without a gap."""

    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]
    data_start: int
    file_size: int


def read_header(file: BinaryIO, file_size: int, path: Path) -> Header:
    """Read and check the header of an open file of `file_size` bytes. Raises HeaderError."""
    prefix = file.read(_LENGTH_BYTES)
    if len(prefix) < _LENGTH_BYTES:
        raise HeaderError(path, "shorter than the 8 bytes of a header length")
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER_BYTES:
        raise HeaderError(path, f"header length {length} is above the limit of {MAX_HEADER_BYTES} bytes")
    if _LENGTH_BYTES + length > file_size:
        raise HeaderError(path, f"header length {length} is behind the end of the file ({file_size} bytes)")
    raw = file.read(length)
    if len(raw) < length:
        raise HeaderError(path, f"header ends after {len(raw)} of {length} bytes")
    return parse_header(raw, file_size, path)


def no_header(file: BinaryIO, size: int, path: Path) -> Header:
    """Of a file whose tensors somebody else finds."""
    return Header({}, {}, 0, size)


def parse_header(raw: bytes, file_size: int, path: Path) -> Header:
    """Check the JSON of a header (without its length prefix). Raises HeaderError."""
    try:
        content = decode(raw)
        metadata, tensors = content.metadata(), list(content.tensors())
    except NotAsAsked as error:
        raise HeaderError(path, error.reason, key=error.key) from error
    for name, fields in tensors:
        if fields.dtype not in BITS:
            raise HeaderError(path, f"dtype {fields.dtype!r} is not one of a safetensors file", key=name)
    data_start = _LENGTH_BYTES + len(raw)
    entries = [_entry(name, fields, data_start, path) for name, fields in dict(tensors).items()]
    entries.sort(key=lambda entry: (entry.offset, entry.length))
    position = data_start
    for entry in entries:
        if entry.offset != position:
            what = "overlaps the tensor before it" if entry.offset < position else "leaves a hole before it"
            raise HeaderError(path, what, key=entry.name)
        position += entry.length
    if position != file_size:
        raise HeaderError(path, f"its tensors end at byte {position}, the file at {file_size}")
    return Header({entry.name: entry for entry in entries}, metadata, data_start, file_size)


def _entry(name: str, fields: Fields, data_start: int, path: Path) -> TensorEntry:
    begin, end = fields.offsets
    if begin > end:
        raise HeaderError(path, "data_offsets are not a begin and an end", key=name)
    elements = 1
    for size in fields.shape:  # one after the other: too many fit nowhere, even if there are none of them
        elements *= size
        if elements >= _MOST:
            break
    bits = elements * BITS[fields.dtype]
    if bits >= _MOST or bits % 8 or end - begin != bits // 8:
        reason = f"{end - begin} bytes do not fit {fields.dtype} {list(fields.shape)}"
        raise HeaderError(path, reason, key=name)
    dtype, shape = _in_torch(fields.dtype, fields.shape, end - begin)
    return TensorEntry(name, dtype, shape, data_start + begin, end - begin)


def _in_torch(name: str, shape: tuple[int, ...], length: int) -> tuple[torch.dtype, tuple[int, ...]]:
    dtype = DTYPES.get(name)
    if dtype is not None and BITS[name] == 4 and shape and shape[-1] % 2 == 0:
        return dtype, (*shape[:-1], shape[-1] // 2)  # two in one element
    return (dtype, shape) if dtype is not None and BITS[name] > 4 else (torch.uint8, (length,))
