"""Tiny weight files, modules built over them, and stand-ins for what fails: shared by this room's tests."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from flux_speedup.weights.files import header
from flux_speedup.weights.files.identity import FileIdentity, identity
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.files.span import Span
from flux_speedup.weights.packed.store import PACKED
from flux_speedup.weights.residency.residency import Residency
from flux_speedup.weights.transfer.lane import PlainLane
from flux_speedup.weights.transfer.reader import FileSource, Source
from flux_speedup.weights.transfer.staging import Arena
from flux_speedup.weights.transfer.transfer import Underway, transfer

NAMES = {dtype: name for name, dtype in header.DTYPES.items()}
DTYPES = {name: dtype for name, dtype in header.DTYPES.items() if name not in ("F4", "F8_E8M0")}
"""Those of any shape, that PyTorch can compare and cast."""
CARD = torch.device("cpu", 0)
"""Stands for a card: it compares unequal to `cpu`, and its memory is RAM of its own."""


def random_tensor(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Any bytes at all (NaN and infinities too); for bool, zeros and ones."""
    generator = torch.Generator().manual_seed(seed)
    count = math.prod(shape) * dtype.itemsize
    raw = torch.randint(
        0, 2 if dtype is torch.bool else 256, (count,), dtype=torch.uint8, generator=generator
    )
    return raw.view(dtype).reshape(shape) if count else torch.empty(shape, dtype=dtype)


def raw_bytes(tensor: torch.Tensor) -> bytes:
    return (
        bytes(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        if tensor.numel()
        else b""
    )


def header_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    position = 0
    for name, tensor in tensors.items():
        end = position + tensor.nbytes
        shape = list(tensor.shape)
        if NAMES[tensor.dtype] == "F4":  # two in one element
            shape[-1] *= 2
        content[name] = {"dtype": NAMES[tensor.dtype], "shape": shape, "data_offsets": [position, end]}
        position = end
    return content


def file_bytes(content: Any, data: bytes = b"", *, pad: int = 8) -> bytes:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    raw += b" " * (-len(raw) % pad)
    return len(raw).to_bytes(8, "little") + raw + data


def write_weights(path: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    """A safetensors file, largest elements first so that every tensor is aligned, as the library does."""
    ordered = dict(sorted(tensors.items(), key=lambda item: -item[1].element_size()))
    path.write_bytes(file_bytes(header_of(ordered), b"".join(raw_bytes(t) for t in ordered.values())))
    return path


def module_of(tensors: Mapping[str, torch.Tensor], buffers: Mapping[str, torch.Tensor] | None = None) -> Any:
    module = torch.nn.Module()
    for name, tensor in tensors.items():
        module.register_parameter(name, torch.nn.Parameter(tensor, requires_grad=False))
    for name, tensor in (buffers or {}).items():
        module.register_buffer(name, tensor)
    return module


class CountingLane(PlainLane):
    """The plain lane; counts what it hands out, and fails where it is told to."""

    def __init__(
        self,
        *,
        fail_empty_at: int = -1,
        fail_copy_at: int = -1,
        error: Exception | None = None,
        device: torch.device = CARD,
    ) -> None:
        super().__init__(device)
        self.made: list[torch.Tensor] = []
        self.copies = 0
        self.aborted = 0
        self._lock = threading.Lock()
        self._fail_empty_at = fail_empty_at
        self._fail_copy_at = fail_copy_at
        self._error = error or RuntimeError("the device is gone")

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        if len(self.made) == self._fail_empty_at:
            raise torch.OutOfMemoryError("no room on the device")
        tensor = super().empty(shape, dtype)
        self.made.append(tensor)
        return tensor

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        with self._lock:
            self.copies += 1
            if self.copies - 1 == self._fail_copy_at:
                raise self._error
        super().copy(target, source)

    def abort(self) -> None:
        self.aborted += 1


def file_opener(registry: Registry, wrap: Callable[[Source], Source] = lambda source: source) -> Any:
    """An opener for transfers over a registry of the test's own; `wrap` puts a fault in between."""

    def opened(span: Span) -> Source:
        return wrap(FileSource(span.path, span.identity, registry))

    return opened


def residency_of(module: torch.nn.Module, registry: Registry, **more: Any) -> Residency:
    """A residency with a small arena and two threads. `opener` and `lane` replace the real ones.

    Its loads begin with one weight, and look at each of the next while those before it are on their way.
    """
    arena = Arena(limit=1 << 20, chunk=64 << 10)
    opener = more.pop("opener", file_opener(registry))
    lane, store = more.pop("lane", None), more.pop("store", PACKED)
    more.setdefault("lanes", PlainLane)
    more.setdefault("first", 1)

    def run(items: Any, chosen: Any, **told: Any) -> list[torch.Tensor]:
        return transfer(items, lane or chosen, arena, threads=2, opener=opener, store=store, **told)

    def start(items: Any, chosen: Any, **told: Any) -> Underway:
        return Underway(items, lane or chosen, arena, threads=2, opener=opener, store=store, **told)

    return Residency(module, registry=registry, run=run, start=start, **more)


def identity_of(path: Path) -> FileIdentity:
    found = identity(path)
    assert found is not None
    return found
