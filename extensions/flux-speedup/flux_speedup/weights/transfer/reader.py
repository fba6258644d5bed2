"""Where chunks are read from: a file whose identity is checked before and after, or a tensor in RAM."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import threading
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


SourceOpener = Callable[["Span | torch.Tensor"], Source]


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
    """A contiguous tensor in RAM, so that it takes the same way through the staging slots as a file."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.path: Path | None = None
        self._bytes = tensor.detach().reshape(-1).view(torch.uint8)

    def read_into(self, offset: int, target: memoryview) -> None:
        if len(target):
            # Not by PyTorch, which would start threads for it, beside all those that read already.
            to = np.frombuffer(target, dtype=np.uint8).ctypes.data
            ctypes.memmove(to, self._bytes[offset : offset + len(target)].data_ptr(), len(target))

    def forget(self, offset: int, length: int) -> None:
        return

    def check(self) -> None:
        return

    def close(self) -> None:
        return


def open_source(what: Span | torch.Tensor) -> Source:
    """The source of a span's file, or of a tensor in RAM. Raises ReadError."""
    if isinstance(what, Span):
        return FileSource(what.path, what.identity)
    return MemorySource(what)
