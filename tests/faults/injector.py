"""Faults at any call of the system, of PyTorch's allocator and copies, or of threads: counted first, then made."""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import mmap
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Point:
    """One function that can fail, where it is looked up, and the ways in which it fails."""

    name: str
    owner: Any
    attribute: str
    errors: tuple[Callable[[], BaseException], ...]


def _system(*numbers: int) -> tuple[Callable[[], BaseException], ...]:
    return tuple(_os_error(number) for number in numbers)


def _os_error(number: int) -> Callable[[], BaseException]:
    return lambda: OSError(number, os.strerror(number))


def _anywhere() -> tuple[Callable[[], BaseException], ...]:
    return (KeyboardInterrupt, MemoryError)


def _device() -> tuple[Callable[[], BaseException], ...]:
    return (
        lambda: torch.OutOfMemoryError("no memory on the device"),
        lambda: RuntimeError("CUDA error: an illegal memory access was encountered"),
    )


OPENING = (errno.ENOENT, errno.EACCES, errno.EMFILE, errno.EIO)
POINTS = (
    Point("open", io, "open", _system(*OPENING) + _anywhere()),
    Point("os.open", os, "open", _system(*OPENING) + _anywhere()),
    Point("fstat", os, "fstat", _system(errno.EIO, errno.ESTALE) + _anywhere()),
    Point("dup", os, "dup", _system(errno.EMFILE) + _anywhere()),
    Point("mmap", mmap, "mmap", (*_system(errno.ENOMEM, errno.ENODEV), *_anywhere())),
    Point("preadv", os, "preadv", _system(errno.EIO, errno.ESTALE, errno.EINVAL) + _anywhere()),
    Point("view", torch, "frombuffer", (lambda: RuntimeError("no view"), *_anywhere())),
    Point("allocate", torch, "empty", (*_device(), *_anywhere())),
    Point("copy", torch.Tensor, "copy_", (*_device(), *_anywhere())),
    Point(
        "thread", threading.Thread, "start", (lambda: RuntimeError("can't start new thread"), *_anywhere())
    ),
)


def error_of(point: str, number: int) -> BaseException:
    """The error of that number which the point of that name can raise."""
    return next(each for each in POINTS if each.name == point).errors[number]()


class Faults:
    """Wraps every point while it is entered. With `at`, call number `at[1]` of point `at[0]` raises `error`."""

    def __init__(
        self,
        at: tuple[str, int] | None = None,
        error: BaseException | None = None,
        only: Callable[[], bool] = lambda: True,
    ) -> None:
        """`only`: asked at each call whether it counts."""
        self._at = at
        self._only = only
        self.error = error
        self.calls: Counter[str] = Counter()
        self.raised = False
        self._lock = threading.Lock()

    def __enter__(self) -> Faults:
        self._undo = contextlib.ExitStack()
        for point in POINTS:
            self._undo.enter_context(_wrapped(point, self._count))
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What a test itself does in the middle of a run is neither counted nor made to fail."""
        at, self._at = self._at, None
        before = Counter(self.calls)
        try:
            yield
        finally:
            self._at, self.calls = at, before

    def _count(self, point: Point) -> None:
        if not self._only():
            return
        with self._lock:
            number = self.calls[point.name]
            self.calls[point.name] += 1
            due = self._at == (point.name, number) and not self.raised
            self.raised = self.raised or due
        if due and self.error is not None:
            raise self.error


@contextlib.contextmanager
def _wrapped(point: Point, count: Callable[[Point], None]) -> Iterator[None]:
    original = getattr(point.owner, point.attribute)
    inherited = point.attribute not in vars(point.owner)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        count(point)
        return original(*args, **kwargs)

    setattr(point.owner, point.attribute, wrapper)
    if point.owner is io:
        builtins.open = wrapper
    try:
        yield
    finally:
        if inherited:
            delattr(point.owner, point.attribute)
        else:
            setattr(point.owner, point.attribute, original)
        if point.owner is io:
            builtins.open = original
