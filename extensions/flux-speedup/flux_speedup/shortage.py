"""Whether an error says that memory is short: RAM or address space, or memory of the card. Imports no torch."""

from __future__ import annotations

import errno
from collections.abc import Iterator

# Of Windows: not enough memory, not enough storage, not enough resources, the paging file is too small.
_WINDOWS_MEMORY = (8, 14, 1450, 1455)
_RAM = (
    "cannot allocate memory",
    "not enough memory",
    "os error 12)",
    "os error 1455",
    "paging file is too small",
)
_CARD = (
    "out of memory",  # of CUDA, ROCm, XPU and MPS, whether PyTorch's allocator says it or the driver
    "alloc_failed",  # of cuBLAS, cuDNN before version 9, cuSPARSE, cuSOLVER, hipBLAS
    "allocation_failed",  # of cuDNN since
    "allocfailed",  # of MIOpen
    "rocblas_status_memory_error",
    "out_of_device_memory",  # of XPU's driver, as is the next
    "out_of_resources",
    "not enough gpu video memory",  # of DirectML
    # What these libraries say as well where they find no memory for a handle, or for any of their ways to compute.
    "blas_status_not_initialized",
    "cudnn_status_not_initialized",
    "cudnn_status_not_supported",
    "unable to find a valid cudnn algorithm",
    "unable to find an engine to execute this computation",
    "no valid execution plans built",
)
_CUDA_MEMORY = 2
"""Of CUDA and ROCm, as AcceleratorError has it; after most others of that kind a card computes no more."""


def of_ram(error: BaseException) -> bool:
    """Whether RAM or address space is short by an error, or by what it was raised from."""
    return any(_is_of_ram(each) for each in chain(error))


def of_card(error: BaseException) -> bool:
    """Whether memory of the card is short by an error, or by what it was raised from.

    Some of what PyTorch's libraries say then they say for other reasons, too: what is made again with more room
    must not mind failing again.
    """
    return any(_is_of_card(each) for each in chain(error))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_of_ram(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM or getattr(error, "winerror", None) in _WINDOWS_MEMORY
    return _says(error, _RAM)


def _is_of_card(error: BaseException) -> bool:
    if any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    return getattr(error, "error_code", None) == _CUDA_MEMORY or _says(error, _CARD)


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    said = str(error).lower()
    return any(each in said for each in words)
