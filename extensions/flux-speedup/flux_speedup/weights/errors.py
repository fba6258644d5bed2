"""What can go wrong between a weight file and a device. Each error names the file and the reason."""

from __future__ import annotations

import traceback
from pathlib import Path

import torch

from ..shortage import chain

OUT_OF_MEMORY: type[Exception] = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)
"""What a device's allocator raises; PyTorch before 2.5 has it in torch.cuda only."""


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

    def __init__(self, path: Path | str | None, reason: str) -> None:
        super().__init__(path, f"{reason}; the weights are as they were before")


def let_go(error: BaseException) -> None:
    """What the functions that an error came through held is free, those of the errors before it as well."""
    for each in chain(error):
        traceback.clear_frames(each.__traceback__)
