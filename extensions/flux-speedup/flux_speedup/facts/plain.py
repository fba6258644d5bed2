"""What JSON can hold, made of the dataclasses that say what there is: for the API and for the export."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any

More = Mapping[type, Mapping[str, Callable[[Any], object]]]
"""By a dataclass: what is told of it besides its fields, and how that is computed."""


def plain(value: Any, more: More = MappingProxyType({})) -> Any:
    """Fields of dataclasses by name, words of enums, None for what is no number, text as `text` makes it."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str):
        return text(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        found |= {name: of(value) for name, of in more.get(type(value), {}).items()}
        return plain(found, more)
    if isinstance(value, Mapping):
        return {text(key): plain(one, more) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one, more) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def text(value: object) -> str:
    """`value` as text for every JSON reader: lone surrogates, as in some file names, become escapes."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")
