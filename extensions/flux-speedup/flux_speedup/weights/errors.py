"""What can go wrong between a weight file and a device. Each error names the file and the reason."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

OUT_OF_MEMORY: type[Exception] = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)
"""What a device's allocator raises; PyTorch before 2.5 has it in torch.cuda only."""

# Of Windows: not enough memory, not enough storage, not enough resources, the paging file is too small.
_WINDOWS_MEMORY = (8, 14, 1450, 1455)
_SAID = (
    "cannot allocate memory",
    "not enough memory",
    "os error 12)",
    "os error 1455",
    "paging file is too small",
)


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether an error says that RAM or address space is short, itself or in what it was raised from."""
    return any(_says_so(each) for each in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _says_so(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM or getattr(error, "winerror", None) in _WINDOWS_MEMORY
    return any(words in str(error).lower() for words in _SAID)


class WeightsError(Exception):
    """Base of every error this room raises on purpose; the caller falls back to the host's own path."""

    def __init__(self, path: Path | str | None, reason: str) -> None:
        self.path = None if path is None else Path(path)
        self.reason = reason
        super().__init__(reason if path is None else f"{path}: {reason}")


class HeaderError(WeightsError):
    """The file is not a safetensors file that can be mapped; `key` is the tensor concerned, if one is."""

    def __init__(self, path: Path | str | None, reason: str, *, key: str | None = None) -> None:
        self.key = key
        super().__init__(path, reason if key is None else f"tensor {key!r}: {reason}")


class MappingError(WeightsError):
    """The file could not be opened or mapped."""


class ReadError(WeightsError):
    """Bytes could not be read, or are no longer those that were mapped; `offset` is in the file, in bytes."""

    def __init__(self, path: Path | str | None, reason: str, *, offset: int | None = None) -> None:
        self.offset = offset
        super().__init__(path, reason if offset is None else f"at byte {offset}: {reason}")


class TransferError(WeightsError):
    """A move did not happen: every parameter is as it was before, and every new buffer was dropped."""

    def __init__(self, path: Path | str | None, reason: str, *, out_of_memory: bool = False) -> None:
        self.out_of_memory = out_of_memory
        super().__init__(path, f"{reason}; the weights are as they were before")


def let_go(error: BaseException) -> None:
    """What the functions that an error came through held is free, those of the errors before it as well."""
    for each in _chain(error):
        traceback.clear_frames(each.__traceback__)


def refusals(device: torch.device) -> int:
    """How often the device's allocator has been out of memory, whoever was told; 0 where that is not counted."""
    if device.type != "cuda":
        return 0
    return int(torch.cuda.memory_stats_as_nested_dict(device).get("num_ooms", 0))
