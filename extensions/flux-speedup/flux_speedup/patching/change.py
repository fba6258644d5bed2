"""One change to the host and its exact undo: an attribute replaced, or a call that answers with its undo."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .guard import Guarded, reporter

Undo = Callable[[], None]
_MISSING = object()


class ChangeError(Exception):
    """A change could not be made; the message names the target and why."""


class AlreadySo(Exception):
    """The host is in the wanted state already; there is nothing to undo."""


class Declined(Exception):
    """The change is not made, for a good reason that the message names."""


@dataclass(frozen=True)
class Function:
    """Replace a function of the host by `make(original)`.

    After the undo the replacement passes straight on to the original, so that whoever kept or wrapped it
    in the meantime has the host's own behaviour. `own_signature` shows the replacement's parameters
    instead of the original's (gradio reads them).

    `guarded`: where ours fails, the host's own runs (guard.py). False where the host's own must not follow a
    failure of ours, as what ours had begun would make its work wrong; ours then ends what it began by itself.
    """

    module: str
    path: str
    make: Callable[[Callable[..., Any]], Callable[..., Any]]
    own_signature: bool = False
    guarded: bool = True


@dataclass(frozen=True)
class Value:
    """Set a module's or class's attribute; undone only while it still holds our value."""

    module: str
    path: str
    value: Any


@dataclass(frozen=True)
class Call:
    """Anything else: `apply` makes the change and returns its undo. Waits for `module` where one is named."""

    apply: Callable[[], Undo]
    module: str | None = None


Change = Function | Value | Call


def apply(change: Change) -> Undo:
    """Make one change now. Its module must be imported.

    Raises:
        ChangeError: the target does not exist in this host.
        AlreadySo: there is nothing to change.
        Declined: the change is not made, and why.
    """
    if isinstance(change, Call):
        return change.apply()
    owner, name, found = _resolve(change.module, change.path)
    if isinstance(change, Value):
        return _set_value(owner, name, change.value)
    return _set_function(owner, name, found, change)


def apply_all(changes: Iterable[Change]) -> Undo:
    """Make several changes now, in this order: all of them, or none. Raises what `apply` raises."""
    undos: list[Undo] = []
    try:
        for change in changes:
            undos.append(apply(change))
    except BaseException:
        in_reverse(undos)()
        raise
    return in_reverse(undos)


def all_or_nothing(changes: Iterable[Change]) -> Undo:
    """Make those changes, or none where this host lacks a function of them."""
    try:
        return apply_all(changes)
    except ChangeError:
        return lambda: None


def whatever_is_there(optional: Iterable[Change]) -> Undo:
    """Make those changes whose function exists in this host."""
    undos: list[Undo] = []
    for change in optional:
        if change.module not in sys.modules:
            continue
        try:
            undos.append(apply(change))
        except ChangeError:
            continue
    return in_reverse(undos)


def in_reverse(undos: Sequence[Undo]) -> Undo:
    """One undo for several changes, the newest first."""

    def undo() -> None:
        for each in reversed(undos):
            each()

    return undo


def _resolve(module: str, path: str) -> tuple[Any, str, Any]:
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part, _MISSING)
        if owner is _MISSING:
            raise ChangeError(f"{module} has no {path}; this WebUI keeps its own behaviour")
    found = getattr(owner, name, _MISSING)
    if found is _MISSING:
        raise ChangeError(f"{module} has no {path}; this WebUI keeps its own behaviour")
    return owner, name, found


def _set_value(owner: Any, name: str, value: Any) -> Undo:
    before = vars(owner).get(name, _MISSING)
    setattr(owner, name, value)

    def undo() -> None:
        current = vars(owner).get(name, _MISSING)
        if current is value or (type(current) is type(value) and current == value):
            _restore(owner, name, before)

    return undo


def _set_function(owner: Any, name: str, found: Callable[..., Any], change: Function) -> Undo:
    before = vars(owner).get(name, _MISSING)
    target: list[Callable[..., Any]]
    if change.guarded:
        guard = Guarded(change.path, found, change.make, reporter())
        ours, target = guard.ours, [guard]
    else:
        ours = change.make(found)
        target = [ours]

    @functools.wraps(ours if change.own_signature else found)
    def replacement(*args: Any, **kwargs: Any) -> Any:
        return target[0](*args, **kwargs)

    if change.own_signature:
        del replacement.__dict__["__wrapped__"]
        replacement.__signature__ = _signature(ours)  # type: ignore[attr-defined]
    setattr(owner, name, replacement)

    def undo() -> None:
        target[0] = found
        if vars(owner).get(name, _MISSING) is replacement:
            _restore(owner, name, before)

    return undo


def _signature(function: Callable[..., Any]) -> Any:
    import inspect

    return inspect.signature(function)


def _restore(owner: Any, name: str, before: Any) -> None:
    if before is _MISSING:
        delattr(owner, name)
    else:
        setattr(owner, name, before)
