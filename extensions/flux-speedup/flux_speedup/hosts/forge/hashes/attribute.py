"""An attribute of one of the host's classes that is asked for through us while our change is in force."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....patching.change import Undo

_MISSING: Any = object()
Read = Callable[[Any, Any], Any]
"""(object, what it holds) -> what the reader gets."""
Write = Callable[[Any, Any], Any]
"""(object, what is assigned) -> what it holds from then on."""


class Attribute:
    """Objects hold the value where they would without us, so that nothing is lost when this is taken away."""

    def __init__(self, name: str, default: Any, read: Read, write: Write | None) -> None:
        self._name = name
        self._default = default
        self._read = read
        self._write = write

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        if owner is None:
            return self._default_or_error()
        held = vars(owner).get(self._name, _MISSING)
        return self._read(owner, self._default_or_error() if held is _MISSING else held)

    def __set__(self, owner: Any, value: Any) -> None:
        vars(owner)[self._name] = value if self._write is None else self._write(owner, value)

    def __delete__(self, owner: Any) -> None:
        if self._name not in vars(owner):
            raise AttributeError(self._name)
        del vars(owner)[self._name]

    def _default_or_error(self) -> Any:
        if self._default is _MISSING:
            raise AttributeError(self._name)
        return self._default


def watch(kind: type, name: str, read: Read, write: Write | None = None) -> Undo:
    """Ask `read` for the attribute of every object of a class, from now on."""
    before = vars(kind).get(name, _MISSING)
    ours = Attribute(name, getattr(kind, name, _MISSING), read, write)
    setattr(kind, name, ours)

    def undo() -> None:
        if vars(kind).get(name) is not ours:
            return
        if before is _MISSING:
            delattr(kind, name)
        else:
            setattr(kind, name, before)

    return undo
