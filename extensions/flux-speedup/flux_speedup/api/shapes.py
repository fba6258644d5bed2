"""The API's answers, made of the dataclasses that say what there is: what they hold, and the shape they have in the
API's documentation, whose words are those classes' own. For pydantic 1.10 and 2 alike.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, StrictBool, StrictFloat, StrictInt, StrictStr, create_model

from ..facts.plain import plain
from ..facts.view import ConfigRow, MemoryUse
from ..stats.events import Event, KindTotal
from ..stats.first_image import FirstImage
from ..stats.machine import Machine, Measuring, Savings
from ..stats.requests import Request, Steps


@dataclass(frozen=True)
class Stats:
    """Events, newest first, and the sums of this process by kind. next_offset: null on the last page."""

    simulated: bool
    events: tuple[Event, ...]
    totals: Mapping[str, KindTotal]
    next_offset: int | None


@dataclass(frozen=True)
class Requests:
    """Requests of all processes, newest first, and what this one saved. first_image: null until it is made."""

    simulated: bool
    requests: tuple[Request, ...]
    savings: Savings
    first_image: FirstImage | None


@dataclass(frozen=True)
class MachineNow:
    """The newest measurement of this machine, the one under way, and memory."""

    measured: Machine | None
    measuring: Measuring
    memory: MemoryUse


@dataclass(frozen=True)
class Part:
    """A component on the device, and its bytes."""

    component: str
    bytes: int


RATE = (float | None, lambda one: one.rate)
MORE: Mapping[type, Mapping[str, tuple[Any, Callable[[Any], object]]]] = {
    Event: {"rate_gb_s": RATE},
    KindTotal: {"rate_gb_s": RATE},
    Steps: {"rate_gb_s": RATE},
    Request: {"key": (str, lambda one: one.key)},
    FirstImage: {"waited_for": (str, lambda one: one.waited_for)},
    MemoryUse: {"vram_by_model": (tuple[Part, ...], lambda one: [Part(*each) for each in one.vram_by_model])},
}
"""What is computed: its type, and how. GB = 10^9 bytes."""
# Strict, in this order: pydantic 1 would turn every value into the first type that takes it.
STRICT = StrictBool | StrictInt | StrictFloat | StrictStr | None
OTHERWISE: Mapping[type, Mapping[str, Any]] = {
    ConfigRow: {"value": STRICT, "default": STRICT, "private": None}
}
"""Fields with another type than the class says; None: not told."""


def answer(value: object) -> Any:
    """What JSON can hold of it."""
    return plain(value, {kind: {name: of for name, (_, of) in more.items()} for kind, more in MORE.items()})


@functools.cache
def shape(of: type) -> type[BaseModel]:
    """The model of a dataclass's answers; whatever is no number is null."""
    kinds = {**get_type_hints(of), **OTHERWISE.get(of, {})}
    named = {each.name: kinds[each.name] for each in fields(of)}
    named |= {name: kind for name, (kind, _) in MORE.get(of, {}).items()}
    made: Any = {name: (_told(kind), ...) for name, kind in named.items() if kind is not None}
    model: type[BaseModel] = create_model(f"{of.__name__}Model", __module__=__name__, **made)
    model.__doc__ = inspect.getdoc(of)
    return model


def _told(kind: Any) -> Any:
    inside = get_args(kind)
    if kind is float:
        return float | None
    if get_origin(kind) in (Union, types.UnionType):
        return kind if kind is STRICT else _told(inside[0]) | None
    if get_origin(kind) is tuple:
        return list[_told(inside[0])]  # type: ignore[misc]
    if inside:
        return dict[str, _told(inside[1])]  # type: ignore[misc]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return str
    return shape(kind) if is_dataclass(kind) and isinstance(kind, type) else kind
