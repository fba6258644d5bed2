"""Memory registered with CUDA: the GPU reads it where it is, and its pages cannot be evicted.

A file is mapped once more for that, shared and read-only: over its private mapping registering never ends, as
the kernel would make a copy of every page.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from ..files import lease
from ..files.mapping import FileIdentity, Registry
from .cuda_errors import take_error_off

PIECE = 64 << 20
"""Bytes registered at once: whoever computes meanwhile waits for one of them, and of a file of which a part is
read little more than that part is held."""
_READ_ONLY = 8  # cudaHostRegisterReadOnly; without it a mapping that cannot be written is refused


class Refused(Exception):
    """Memory cannot be registered; the message says why."""


@dataclass(frozen=True)
class Registrar:
    """How memory is registered: address, bytes -> 0 or an error's number. `piece`: bytes at once."""

    register: Callable[[int, int], int]
    unregister: Callable[[int], int]
    piece: int = PIECE

    def pieces(self, start: int, length: int) -> range:
        """Numbers of the pieces in which these bytes of a mapping lie."""
        return range(start // self.piece, -(-(start + length) // self.piece))

    def takes(self, address: int, length: int) -> None:
        """Register one piece. Raises Refused, RuntimeError."""
        error = self.register(address, length)
        if error:
            raise Refused(f"registering its memory failed with error {error}")

    def lets_go(self, address: int) -> bool:
        """Whether a piece is not registered any longer."""
        try:
            return not self.unregister(address)
        except Exception:  # then it may still be: the caller keeps it mapped
            return False


class Registered:
    """A mapping and its registration, which nobody else holds; what is made of it keeps both.

    Memory that is unmapped while it is registered, and mapped anew at its address, counts as pinned while the
    device reads the old bytes. So each registered piece holds the mapping, and lets go of it only once it is
    not registered any more: whatever dies first, at the process's end too, and for good where that fails.
    """

    def __init__(
        self,
        buffer: mmap.mmap | np.ndarray[Any, Any],
        registrar: Registrar,
        gone: Callable[[int], object] = lambda _: None,
    ) -> None:
        """Takes the mapping, or array of bytes, over, nothing of it registered yet. `gone` is called once with its
        address, when nothing of it is registered any longer, from wherever that happens: it may take no lock.
        """
        self._gone = [gone]  # first of all: should the rest of this fail, it is called all the same
        self._pieces: dict[int, int] = {}  # those registered, by number: bytes
        self.address = 0
        self._buffer = buffer
        self._registrar = registrar
        self.size = len(buffer)
        self.address = np.frombuffer(buffer, dtype=np.uint8).ctypes.data
        # NumPy's way to memory: an array of it keeps this object. PyTorch has no tensors that cannot be written.
        self.__array_interface__ = {
            "version": 3,
            "shape": (self.size,),
            "typestr": "|u1",
            "data": (self.address, False),
        }

    @property
    def whole(self) -> bool:
        """Whether every byte is registered."""
        return self.registered == self.size

    @property
    def registered(self) -> int:
        """Bytes that are registered."""
        return sum(list(self._pieces.values()))

    def bytes_of(self, number: int) -> int:
        """Bytes of a piece."""
        return min(self._registrar.piece, self.size - number * self._registrar.piece)

    def has(self, numbers: Iterable[int]) -> bool:
        """Whether these pieces are registered."""
        return all(number in self._pieces for number in numbers)

    def register(self) -> Registered:
        """Register all of it, or nothing. Raises Refused, RuntimeError."""
        try:
            for number in self._registrar.pieces(0, self.size):
                self.register_piece(number)
        except BaseException:
            self.release()
            raise
        return self

    def register_piece(self, number: int) -> None:
        """Register one piece, if it is not. Raises Refused, RuntimeError: then others are as they were."""
        if number in self._pieces:
            return
        _hold(self._buffer)
        try:
            self._registrar.takes(self.address + number * self._registrar.piece, self.bytes_of(number))
        except Exception:  # anything else may come after it was registered: then it stays mapped for good
            _let_go(self._buffer)
            raise
        self._pieces[number] = self.bytes_of(number)

    def release(self) -> None:
        """The pages can be evicted again; the bytes can still be read. Takes no lock; twice is once."""
        all_gone = True
        while self._pieces:
            try:
                number, _ = self._pieces.popitem()
            except KeyError:  # another thread was faster
                break
            if self._registrar.lets_go(self.address + number * self._registrar.piece):
                _let_go(self._buffer)
            else:
                all_gone = False
        if all_gone and self._gone:
            self._gone.pop()(self.address)

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not finalizing():  # the process's end lets everything go by itself
            self.release()

    def bytes_at(self, start: int, length: int) -> tuple[torch.Tensor, ...]:
        """That part, as a cutter's pieces, but each is saved alone where somebody saves it."""
        return tuple(torch.from_numpy(view.numpy()) for view in self.cutter()(start, length))

    def cutter(self) -> Callable[[int, int], tuple[torch.Tensor, ...]]:
        """From start and length to that part, cut where registrations meet: no copy may cross from one into the
        next. Two of the same registration are views of the same storage. Keeps the memory; for one thread.
        """
        piece, whole = self._registrar.piece, np.asarray(self)
        known: dict[int, torch.Tensor] = {}

        def cut(start: int, length: int) -> tuple[torch.Tensor, ...]:
            end, found = start + length, []
            while start < end:
                first = start // piece * piece
                if first not in known:
                    known[first] = torch.from_numpy(whole[first : first + piece])
                stop = min(first + piece, end)
                # A slice, as `narrow` would let other threads have the interpreter's lock first.
                found.append(known[first][start - first : stop - first])
                start = stop
            return tuple(found)

        return cut

    def all_bytes(self) -> torch.Tensor:
        """Every byte of it, registered or not."""
        return torch.from_numpy(np.asarray(self))


def map_shared(registry: Registry, identity: FileIdentity) -> mmap.mmap:
    """The very file that was mapped, whatever its name leads to now; it cannot be written.

    Raises Refused, OSError, ValueError.
    """
    if sys.platform != "linux":
        raise Refused("only on Linux")
    descriptor = registry.descriptor(identity)
    if descriptor is None:
        raise Refused("its mapping is gone")
    try:
        if not (lease.holds(descriptor) or identity.is_still(descriptor)):
            raise Refused("the file was changed since it was opened")
        return mmap.mmap(descriptor, identity.size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)


_hold = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_IncRef", ctypes.pythonapi))
_let_go = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_DecRef", ctypes.pythonapi))


def _cuda_register(address: int, length: int, flags: int = _READ_ONLY) -> int:
    if torch.version.hip is not None:
        return -1  # the flag means something else there
    cuda: Any = torch.cuda
    return take_error_off(int(cuda.cudart().cudaHostRegister(address, length, flags)))


def _cuda_unregister(address: int) -> int:
    cuda: Any = torch.cuda
    return take_error_off(int(cuda.cudart().cudaHostUnregister(address)))


CUDA = Registrar(_cuda_register, _cuda_unregister)
"""CUDA's own, for memory that is never written."""

CUDA_WRITABLE = Registrar(partial(_cuda_register, flags=0), _cuda_unregister)
"""CUDA's own, for ordinary memory."""
