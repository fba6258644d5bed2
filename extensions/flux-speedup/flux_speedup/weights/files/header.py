"""The safetensors header: parsed within bounds and checked whole before anybody trusts an offset in it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..errors import HeaderError

MAX_HEADER_BYTES = 100_000_000
_LENGTH_BYTES = 8
_MAX_DIMENSIONS = 64

DTYPES: Mapping[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
} | {
    name: getattr(torch, attribute)  # a torch that lacks one makes the host's loader read such a file
    for name, attribute in (
        ("U16", "uint16"),
        ("U32", "uint32"),
        ("U64", "uint64"),
        ("F8_E4M3", "float8_e4m3fn"),
        ("F8_E5M2", "float8_e5m2"),
    )
    if hasattr(torch, attribute)
}


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file; `offset` counts bytes from the start of the file, `length` is in bytes."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    length: int


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


def parse_header(raw: bytes, file_size: int, path: Path) -> Header:
    """Check the JSON of a header (without its length prefix). Raises HeaderError."""
    content = _decode(raw, path)
    metadata = _metadata(content.pop("__metadata__", {}), path)
    data_start = _LENGTH_BYTES + len(raw)
    entries = [_entry(name, value, data_start, path) for name, value in content.items()]
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


def _decode(raw: bytes, path: Path) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise HeaderError(path, "a key occurs twice in the header")
        return result

    if not raw.startswith(b"{"):
        raise HeaderError(path, "the header does not start with '{'")
    try:
        content = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise HeaderError(path, f"the header is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise HeaderError(path, "the header is not a JSON object")
    return content


def _metadata(value: Any, path: Path) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise HeaderError(path, "__metadata__ is not an object of strings")
    return value


def _entry(name: str, value: Any, data_start: int, path: Path) -> TensorEntry:
    if not isinstance(value, dict) or not {"dtype", "shape", "data_offsets"} <= value.keys():
        raise HeaderError(path, "lacks dtype, shape or data_offsets", key=name)
    dtype = DTYPES.get(value["dtype"]) if isinstance(value["dtype"], str) else None
    if dtype is None:
        raise HeaderError(path, f"dtype {value['dtype']!r} is not one we read", key=name)
    shape = _sizes(value["shape"])
    if shape is None or len(shape) > _MAX_DIMENSIONS:
        raise HeaderError(path, f"shape {str(value['shape'])[:80]} is not a list of sizes", key=name)
    offsets = _sizes(value["data_offsets"])
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise HeaderError(path, "data_offsets are not a begin and an end", key=name)
    length = offsets[1] - offsets[0]
    if math.prod(shape) * dtype.itemsize != length:
        raise HeaderError(path, f"{length} bytes do not fit {value['dtype']} {list(shape)}", key=name)
    offset = data_start + offsets[0]
    if length and offset % dtype.itemsize:
        raise HeaderError(path, f"begins at byte {offset}, which its dtype cannot be viewed at", key=name)
    return TensorEntry(name, dtype, shape, offset, length)


def _sizes(value: Any) -> tuple[int, ...] | None:
    if isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 63 for item in value):
        return tuple(value)
    return None
