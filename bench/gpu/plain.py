"""The machine's own speed: a copy from pinned RAM, and the same reads without a device."""

from __future__ import annotations

import torch

from flux_speedup.weights.files.mapping import Mapping
from flux_speedup.weights.transfer.plan import Request, make_plan
from flux_speedup.weights.transfer.reader import FileSource
from measure.reading import read_pieces

from .rows import Bench


def pinned_copy(bench: Bench, size: int) -> float:
    """The floor: the same number of bytes from one pinned block that is in RAM already."""
    pinned = bench.device.type == "cuda"
    block = torch.empty(min(size, 1 << 30), dtype=torch.uint8, pin_memory=pinned)
    block.fill_(1)
    target: torch.Tensor = torch.empty(size, dtype=torch.uint8, device=bench.device)

    pieces: tuple[torch.Tensor, ...] = target.split(block.numel())

    def copy() -> None:
        for piece in pieces:
            piece.copy_(block[: piece.numel()], non_blocking=True)

    copy()
    seconds = [bench.timed(copy)[0] for _ in range(bench.repeats)]
    pieces, target = (), block
    bench.empty_cache()
    name = "plain pinned copy, host to device" if pinned else "plain copy, RAM to RAM"
    return bench.add(name, seconds, size)


def plain_read(mapping: Mapping, threads: int, chunk: int) -> None:
    """The chunks that a load would read, by the same number of threads."""
    source = FileSource(mapping.path, mapping.identity)
    entries = enumerate(mapping.header.tensors.values())
    requests = [Request(0, entry.offset, entry.length, number) for number, entry in entries]
    pieces = ((piece.offset, piece.length) for piece in make_plan(requests, chunk=chunk))
    read_pieces(source.read_into, pieces, threads, chunk)
    source.close()
