"""The JSON of a header, taken as strictly and as generously as the safetensors library takes it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_DEPTH = 127
_WORDS = ("dtype", "shape", "data_offsets")
_ESCAPES = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


class NotAsAsked(ValueError):
    """The header is not one; `reason` says why, `key` which tensor is concerned, if one is."""

    def __init__(self, reason: str, key: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.key = reason, key


class _Pairs(list[tuple[str, Any]]):
    """An object as it was written, keys that occur twice included."""

    def one(self, key: str) -> Any:
        """The value of a key that must be there, once."""
        found = [value for name, value in self if name == key]
        if len(found) != 1:
            raise NotAsAsked(f"{'lacks' if not found else 'has two of'} {key}")
        return found[0]


@dataclass(frozen=True)
class Content:
    """The header's outermost object."""

    pairs: _Pairs

    def metadata(self) -> dict[str, str]:
        """`__metadata__`; empty where there is none. Raises NotAsAsked."""
        if not any(name == "__metadata__" for name, _ in self.pairs):
            return {}
        value = self.pairs.one("__metadata__")
        if value is None:
            return {}
        if not isinstance(value, _Pairs) or not all(isinstance(item, str) for _, item in value):
            raise NotAsAsked("__metadata__ is not an object of strings")
        return dict(value)

    def tensors(self) -> Iterator[tuple[str, Fields]]:
        """Names and what is said of them; of a name that occurs twice the last counts. Raises NotAsAsked."""
        for name, value in self.pairs:
            if name != "__metadata__":
                try:
                    yield name, Fields.of(value)
                except NotAsAsked as error:
                    raise NotAsAsked(error.reason, name) from error


@dataclass(frozen=True)
class Fields:
    """What a header says of one tensor; offsets are bytes from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    offsets: tuple[int, int]

    @classmethod
    def of(cls, value: Any) -> Fields:
        """Raises NotAsAsked. Fields that nobody knows are passed over, as the library does."""
        if isinstance(value, _Pairs):
            dtype, shape, offsets = (value.one(word) for word in _WORDS)
        elif type(value) is list and len(value) == len(_WORDS):
            dtype, shape, offsets = value
        else:
            raise NotAsAsked("lacks dtype, shape or data_offsets")
        if isinstance(dtype, _Pairs) and len(dtype) == 1 and dtype[0][1] is None:
            dtype = dtype[0][0]
        if not isinstance(dtype, str):
            raise NotAsAsked(f"dtype {str(dtype)[:80]} is not a word")
        if not _are_sizes(shape):
            raise NotAsAsked(f"shape {str(shape)[:80]} is not a list of sizes")
        if not _are_sizes(offsets) or len(offsets) != 2:
            raise NotAsAsked("data_offsets are not a begin and an end")
        return cls(dtype, tuple(shape), (offsets[0], offsets[1]))


def decode(raw: bytes) -> Content:
    """The header's JSON. Raises NotAsAsked."""
    try:
        text = raw.decode("utf-8")
        content = json.loads(
            text,
            object_pairs_hook=_Pairs,
            parse_int=_whole,
            parse_float=_finite,
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError) as error:
        raise NotAsAsked(f"the header is not JSON ({error})") from error
    if not isinstance(content, _Pairs):
        raise NotAsAsked("the header is not a JSON object")
    if _depth(content) > _DEPTH:
        raise NotAsAsked("the header is not JSON (nested too deeply)")
    if "\\u" in text and not _has_whole_characters(text):
        raise NotAsAsked("the header is not JSON (half a character)")
    return Content(content)


def _are_sizes(value: Any) -> bool:
    return type(value) is list and all(type(item) is int and 0 <= item < 1 << 64 for item in value)


def _whole(text: str) -> int | float:
    """As the library reads whole numbers: those beyond 64 bits, and -0, are floats."""
    if text == "-0" or len(text) > 20:
        return _finite(text)
    number = int(text)
    return number if -(1 << 63) <= number < 1 << 64 else float(number)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is out of range")
    return number


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level := [item for item in level if isinstance(item, list)]:
        deepest += 1
        level = [part[1] if isinstance(item, _Pairs) else part for item in level for part in item]
    return deepest


def _has_whole_characters(text: str) -> bool:
    """Whether every escaped half of a character (a surrogate) has its other half right behind it."""
    expected = -1  # where the second half must begin
    for found in _ESCAPES.finditer(text):
        code = int(found[1], 16) if found[1] else 0
        second = 0xDC00 <= code < 0xE000
        if second != (found.start() == expected):
            return False
        expected = found.end() if 0xD800 <= code < 0xDC00 else -1
        if expected > 0 and not text.startswith("\\u", expected):
            return False
    return expected < 0
