"""The machine's own speed: a copy from pinned RAM, and the same reads without a device."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import torch

from flux_speedup.weights.files.mapping import Mapping
from flux_speedup.weights.transfer.plan import Request, make_plan
from flux_speedup.weights.transfer.reader import FileSource

from .timing import Timing

# Where the bytes begin and how many they are: at most a buffer full.
Piece = tuple[int, int]


def pinned_copy(timing: Timing, size: int) -> float:
    """The floor: so many bytes from one pinned block that is in RAM already."""
    pinned = timing.device.type == "cuda"
    block = torch.empty(min(size, 1 << 30), dtype=torch.uint8, pin_memory=pinned).fill_(1)
    target: torch.Tensor = torch.empty(size, dtype=torch.uint8, device=timing.device)
    pieces: tuple[torch.Tensor, ...] = target.split(block.numel())

    def copy() -> None:
        for piece in pieces:
            piece.copy_(block[: piece.numel()], non_blocking=True)

    copy()
    seconds = [timing.timed(copy)[0] for _ in range(timing.repeats)]
    pieces, target = (), block
    timing.empty_cache()
    return timing.add("plain pinned copy" if pinned else "plain copy, RAM to RAM", seconds, size)


def planned_read(mapping: Mapping, threads: int, chunk: int) -> None:
    """The chunks that a load would read, by the same number of threads, into buffers that nobody looks at."""
    entries = enumerate(mapping.header.tensors.values())
    requests = [Request(0, entry.offset, entry.length, number) for number, entry in entries]
    read(
        mapping, ((piece.offset, piece.length) for piece in make_plan(requests, chunk=chunk)), threads, chunk
    )


def read(mapping: Mapping, pieces: Iterable[Piece], threads: int, chunk: int) -> None:
    """Each thread takes the next piece that nobody has taken."""
    source = FileSource(mapping.path, mapping.identity)
    left, lock = iter(pieces), threading.Lock()

    def work() -> None:
        buffer = memoryview(bytearray(chunk))
        while True:
            with lock:
                piece = next(left, None)
            if piece is None:
                return
            source.read_into(piece[0], buffer[: piece[1]])

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    source.close()
