"""Hooks on modules that run before and after each call, and that no copy of the module has."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from .unit import Unit

Before = Callable[[Unit, torch.nn.Module], None]
After = Callable[[Unit], None]


def _nothing(*_: Any) -> None:
    """What a copy of a hooked module has in a hook's place."""


class _Hook:
    """Copied or pickled with its module it becomes one that does nothing: the copy's weights are its own."""

    def __deepcopy__(self, memo: Any) -> Callable[..., None]:
        return _nothing

    def __copy__(self) -> Callable[..., None]:
        return _nothing

    def __reduce__(self) -> Any:
        return getattr, (_Nothing, "nothing")


class _Nothing:
    nothing = staticmethod(_nothing)


class _Calling(_Hook):
    """`told` with the unit, for hooks that look and change nothing."""

    def __init__(self, unit: Unit, told: After) -> None:
        self._unit, self._told = unit, told

    def __call__(self, *_: Any) -> None:
        self._told(self._unit)


class _Entering(_Hook):
    def __init__(self, unit: Unit, module: torch.nn.Module, before: Before) -> None:
        self._unit, self._key, self._before = unit, id(module), before

    def __call__(self, module: torch.nn.Module, args: Any) -> None:
        if id(module) == self._key:  # a shallow copy of the module shares its hooks
            self._before(self._unit, module)


class _Leaving(_Hook):
    def __init__(self, unit: Unit, module: torch.nn.Module, after: After) -> None:
        self._unit, self._key, self._after = unit, id(module), after

    def __call__(self, module: torch.nn.Module, args: Any, result: Any) -> None:
        if id(module) == self._key:
            self._after(self._unit)


@functools.cache
def _not_compiled() -> None:
    """torch.compile calls our functions where a model does, and looks into none of them.

    Else it compiles what brings a layer's weights with that layer, for each of them anew and again after every
    load, and what it cannot trace of it fails: the host moves such a layer then.
    """
    # PyTorch's own, which it may call otherwise some day; models compute the same without.
    with contextlib.suppress(Exception):
        sys.modules["torch._dynamo"].trace_rules.add(__name__.partition(".")[0])


class Hooks:
    """The hooks of one stream, by unit."""

    def __init__(self, before: Before, after: After) -> None:
        self._before = before
        self._after = after
        self._handles: dict[int, tuple[RemovableHandle, RemovableHandle]] = {}
        self._numbers: frozenset[int] | None = None

    @property
    def numbers(self) -> frozenset[int]:
        """Of the units that have hooks."""
        if self._numbers is None:
            self._numbers = frozenset(self._handles)
        return self._numbers

    def add(self, module: torch.nn.Module, unit: Unit) -> None:
        """Ours come last before the module and first after it, at the time they are added."""
        if "torch._dynamo" in sys.modules:
            _not_compiled()
        entering = module.register_forward_pre_hook(_Entering(unit, module, self._before))
        leaving = module.register_forward_hook(
            _Leaving(unit, module, self._after), prepend=True, always_call=True
        )
        self._handles[unit.number] = entering, leaving
        self._numbers = None

    def remove(self, number: int) -> None:
        for handle in self._handles.pop(number, ()):
            handle.remove()
        self._numbers = None

    def remove_all(self) -> None:
        for number in list(self._handles):
            self.remove(number)


def watch(
    module: torch.nn.Module, unit: Unit, before: After, inside: After, after: After
) -> list[RemovableHandle]:
    """Call `before` ahead of every hook of the module, `inside` behind them, `after` once it has run."""
    return [
        module.register_forward_pre_hook(_Calling(unit, before), prepend=True),
        module.register_forward_pre_hook(_Calling(unit, inside)),
        module.register_forward_hook(_Calling(unit, after)),
    ]
