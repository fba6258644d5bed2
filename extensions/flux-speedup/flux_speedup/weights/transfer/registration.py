"""A file mapped once more, shared and read-only, and registered with CUDA: the GPU reads its pages where they are.

Over the private mapping registering never ends: the kernel would make a copy of every page.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from ..files.mapping import FileIdentity, Registry

PIECE = 1 << 30  # bytes registered at once
_READ_ONLY = 8  # cudaHostRegisterReadOnly; without it a mapping that cannot be written is refused


class Refused(Exception):
    """A file cannot be registered; the message says why."""


@dataclass(frozen=True)
class Registrar:
    """How memory is registered. `register`: address, bytes -> 0 or an error's number; `piece`: bytes at once."""

    register: Callable[[int, int], int]
    unregister: Callable[[int], object]
    piece: int = PIECE

    def register_all(self, start: int, size: int) -> list[int]:
        """Register memory piece by piece, or none of it; the pieces' addresses. Raises Refused, RuntimeError."""
        done: list[int] = []
        try:
            for address in range(start, start + size, self.piece):
                self._register(address, min(self.piece, start + size - address))
                done.append(address)
        except BaseException:
            self.unregister_all(done)
            raise
        return done

    def unregister_all(self, addresses: list[int]) -> None:
        """Let pieces go that are registered; the list is empty after that."""
        while addresses:
            with contextlib.suppress(RuntimeError):
                self.unregister(addresses.pop())

    def _register(self, address: int, length: int) -> None:
        error = self.register(address, length)
        if error:
            raise Refused(f"registering its memory failed with error {error}")


@dataclass(eq=False)
class Registration:
    """`whole`: every byte of the file, never to be written. Its pages cannot be evicted until `release`."""

    whole: torch.Tensor
    _registrar: Registrar
    _addresses: list[int]

    @classmethod
    def of(cls, registry: Registry, identity: FileIdentity, registrar: Registrar) -> Registration:
        """Register all of a mapped file, or nothing. Raises Refused, OSError, ValueError, RuntimeError."""
        whole = _map_shared(registry, identity)
        return cls(whole, registrar, registrar.register_all(whole.data_ptr(), identity.size))

    def bytes_at(self, offset: int, length: int) -> tuple[torch.Tensor, ...]:
        """That part of the file, cut where registrations meet: no copy may cross from one into the next."""
        piece, end = self._registrar.piece, offset + length
        cuts = [offset, *range((offset // piece + 1) * piece, end, piece), end]
        return tuple(self.whole[start:stop] for start, stop in itertools.pairwise(cuts))

    def release(self) -> None:
        """The pages can be evicted again; the bytes can still be read."""
        self._registrar.unregister_all(self._addresses)


class _Bytes:
    """Read-only memory as NumPy takes it without a copy; PyTorch has no tensors that cannot be written."""

    def __init__(self, buffer: mmap.mmap) -> None:
        self.keeps = np.frombuffer(buffer, dtype=np.uint8)
        self.__array_interface__ = {**self.keeps.__array_interface__, "data": (self.keeps.ctypes.data, False)}


def _map_shared(registry: Registry, identity: FileIdentity) -> torch.Tensor:
    """The very file that was mapped, whatever its name leads to now."""
    if sys.platform != "linux":
        raise Refused("only on Linux")
    descriptor = registry.descriptor(identity)
    if descriptor is None:
        raise Refused("its mapping is gone")
    try:
        if FileIdentity.of(os.fstat(descriptor)) != identity:
            raise Refused("the file was changed since it was opened")
        buffer = mmap.mmap(descriptor, identity.size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)
    return torch.from_numpy(np.asarray(_Bytes(buffer)))


def _cuda_register(address: int, length: int, flags: int = _READ_ONLY) -> int:
    if torch.version.hip is not None:
        return -1  # the flag means something else there
    cuda: Any = torch.cuda
    return int(cuda.cudart().cudaHostRegister(address, length, flags))


def _cuda_unregister(address: int) -> object:
    cuda: Any = torch.cuda
    return cuda.cudart().cudaHostUnregister(address)


CUDA = Registrar(_cuda_register, _cuda_unregister)
"""CUDA's own, for memory that is never written."""

CUDA_WRITABLE = Registrar(partial(_cuda_register, flags=0), _cuda_unregister)
"""CUDA's own, for ordinary memory."""
