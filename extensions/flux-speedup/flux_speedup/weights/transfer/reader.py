"""Where chunks are read from: a file whose identity is checked before and after, or a tensor in RAM."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ..errors import ReadError
from ..files import lease
from ..files.identity import FileIdentity
from ..files.mapping import MAPPINGS, Registry
from ..files.span import Span
from .plan import ALIGN

_ANOTHER = "the file was changed or replaced since it was opened"


class Source(Protocol):
    """Bytes by offset. `read_into` is called from several threads at once, the others from one."""

    path: Path | None

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill `target` with the bytes at `offset`. Raises ReadError."""
        ...

    def forget(self, offset: int, length: int) -> None:
        """These bytes are not read soon again: the system need not keep them. `read_into`'s thread."""
        ...

    def check(self) -> None:
        """Raise ReadError unless the bytes are still those that were mapped."""
        ...

    def close(self) -> None: ...


SourceOpener = Callable[[Span], Source]


class FileSource:
    """A weight file, read by position. Where its mapping lives, the mapped file itself is read, not its name.

    So a file that was replaced under its name since is still read as it was; one that was changed in place,
    or that has no living mapping and is another one now, raises ReadError.
    """

    def __init__(
        self,
        path: Path,
        identity: FileIdentity,
        registry: Registry = MAPPINGS,
        *,
        positional: bool = hasattr(os, "preadv"),
    ) -> None:
        self.path: Path | None = path
        self._identity = identity
        self._registry = registry
        self._positional = positional
        self._name = path
        self._local = threading.local()
        self._files: list[int] = []
        self._lock = threading.Lock()
        held = registry.descriptor(identity)
        self._shared = held if held is not None else self._open()
        try:
            if held is None:
                self._must_be(self._shared)
            self.check()
        except ReadError:
            self.close()
            raise

    def read_into(self, offset: int, target: memoryview) -> None:
        done = 0
        while done < len(target):
            try:
                count = self._read(offset + done, target[done:])
            except OSError as error:
                raise ReadError(self.path, f"reading failed ({error})", offset=offset + done) from error
            if count <= 0:
                self._registry.lost()
                raise ReadError(self.path, "the file ended here", offset=offset + done)
            done += count

    def forget(self, offset: int, length: int) -> None:
        advise = getattr(os, "posix_fadvise", None)
        if advise is not None and self._positional:
            start = offset - offset % mmap.PAGESIZE
            with contextlib.suppress(OSError):
                advise(self._shared, start, offset + length - start, os.POSIX_FADV_DONTNEED)

    def check(self) -> None:
        with self._lock:
            descriptors = [self._shared, *self._files]
        for descriptor in descriptors:
            try:
                same = lease.holds(descriptor) or self._identity.is_still(descriptor)
            except OSError as error:
                raise ReadError(self.path, f"its state cannot be read ({error})") from error
            if not same:
                self._registry.lost()  # whoever goes on with views of it must not meet pages that are gone
                raise ReadError(self.path, _ANOTHER)

    def close(self) -> None:
        with self._lock:
            descriptors = [self._shared, *self._files]
            self._files.clear()
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _must_be(self, descriptor: int) -> None:
        """Whether what the name leads to is the very file. Raises ReadError."""
        try:
            now = FileIdentity.of(descriptor, self._name)
        except OSError as error:
            raise ReadError(self.path, f"its state cannot be read ({error})") from error
        if now != self._identity:
            raise ReadError(self.path, _ANOTHER)

    def _open(self) -> int:
        try:
            return os.open(self._name, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise ReadError(self.path, f"cannot be opened ({error})") from error

    def _read(self, offset: int, target: memoryview) -> int:
        """One read; short ones are the caller's to go on with, interrupted ones Python repeats by itself."""
        if self._positional:
            return os.preadv(self._shared, [target], offset)
        file = getattr(self._local, "file", None)  # a position of its own for each thread
        if file is None:
            descriptor = self._open()
            with self._lock:
                self._files.append(descriptor)
            self._must_be(descriptor)
            file = self._local.file = open(descriptor, "rb", buffering=0, closefd=False)  # noqa: SIM115
        file.seek(offset)
        return file.readinto(target) or 0


class MemorySource:
    """Contiguous tensors in RAM, one after the other, so that they take the same way through the staging slots as a
    file: small ones share a slot. What lies between two of them is nobody's.
    """

    def __init__(self, *tensors: torch.Tensor) -> None:
        self.path: Path | None = None
        self._tensors: list[torch.Tensor] = []
        self._starts: list[int] = []
        self._end = 0
        for tensor in tensors:
            self.add(tensor)

    def add(self, tensor: torch.Tensor) -> int:
        """From where on its bytes are, a multiple of ALIGN. Before anybody reads."""
        start = -(-self._end // ALIGN) * ALIGN
        self._tensors.append(tensor)
        self._starts.append(start)
        self._end = start + tensor.nbytes
        return start

    def read_into(self, offset: int, target: memoryview) -> None:
        if not len(target):
            return
        # Not by PyTorch, which would start threads for it, beside all those that read already.
        to, end = np.frombuffer(target, dtype=np.uint8).ctypes.data, offset + len(target)
        for number in range(bisect_right(self._starts, offset) - 1, bisect_left(self._starts, end)):
            tensor, start = self._tensors[number], self._starts[number]
            first, last = max(offset, start), min(end, start + tensor.nbytes)
            if first < last:
                ctypes.memmove(to + first - offset, tensor.data_ptr() + first - start, last - first)

    def forget(self, offset: int, length: int) -> None:
        return

    def check(self) -> None:
        return

    def close(self) -> None:
        return


def open_source(span: Span) -> Source:
    """The source of a span's file. Raises ReadError."""
    return FileSource(span.path, span.identity)
