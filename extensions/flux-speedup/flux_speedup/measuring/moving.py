"""How fast memory reaches the device: pinned, and the way the WebUI itself moves weights. torch is handed in."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from .reading import Check

PINNED = 256 << 20
ROUNDS = 8
HOST = 2 << 30
# Small tensors take their time for other reasons than their bytes.
WORTH = 8 << 20

Open = Callable[[Path], AbstractContextManager[Any]]
"""Opens a safetensors file as `safetensors.safe_open` does for PyTorch on the CPU."""


def bus(torch: Any, device: Any, check: Check) -> float:
    """Bytes a second from pinned memory to the device: the best of some copies. Raises RuntimeError."""
    best = 0.0
    try:
        source = torch.empty(PINNED, dtype=torch.uint8, pin_memory=True)
        target = torch.empty(PINNED, dtype=torch.uint8, device=device)
        for number in range(ROUNDS):
            torch.cuda.synchronize(device)
            began = time.perf_counter()
            target.copy_(source, non_blocking=True)
            torch.cuda.synchronize(device)
            best = max(best, PINNED / (time.perf_counter() - began))
            check((number + 1) / ROUNDS)
    finally:
        source = target = None
        give_back(torch)
    return best


def host_moves(
    torch: Any, device: Any, path: Path, opened: Open, check: Check, *, limit: int = HOST
) -> tuple[float | None, float | None]:
    """Bytes a second to the device and back, as the WebUI's own `module.to` moves them, one tensor at a time.

    Over `limit` bytes of the file at most, whose pages are read first; on the device is never more than one
    tensor. (None, None) where the file has no tensors that are worth it. Raises RuntimeError, OSError.
    """
    with opened(path) as file:
        names = _worth(file, limit)
        for number, name in enumerate(names):
            file.get_tensor(name).view(torch.uint8).flatten()[::4096].sum()
            check((number + 1) / len(names) / 2)
    size = 0
    there = back = 0.0
    # Opened anew: the WebUI's own move meets pages that nobody has touched in its mapping.
    with opened(path) as file:
        for number, name in enumerate(names):
            tensor = file.get_tensor(name)
            began = time.perf_counter()
            moved = tensor.to(device)
            torch.cuda.synchronize(device)
            middle = time.perf_counter()
            moved.to("cpu")
            there += middle - began
            back += time.perf_counter() - middle
            size += tensor.nbytes
            del moved, tensor
            check(0.5 + (number + 1) / len(names) / 2)
    return (size / there if there else None), (size / back if back else None)


def give_back(torch: Any) -> None:
    """PyTorch keeps freed memory for itself, the pinned as well; newer ones can be asked for that too."""
    empty_pinned = getattr(torch._C, "_host_emptyCache", None)
    if empty_pinned is not None and torch.cuda.is_available():
        empty_pinned()
        torch.cuda.empty_cache()


def _worth(file: Any, limit: int) -> list[str]:
    """Names of big tensors, `limit` bytes together or a little more."""
    found: list[str] = []
    size = 0
    for name in file.keys():  # noqa: SIM118 (not a dictionary)
        length = file.get_tensor(name).nbytes
        if length >= WORTH and size < limit:
            found.append(name)
            size += length
    return found
