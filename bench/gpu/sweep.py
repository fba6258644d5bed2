"""Loads over numbers of threads and chunk sizes, with events that spin and events that sleep."""

from __future__ import annotations

from functools import partial

import torch

from flux_speedup.weights.files.mapping import Mapping
from flux_speedup.weights.residency.residency import Residency
from flux_speedup.weights.transfer.lane import Lane, StreamLane, lane_for
from flux_speedup.weights.transfer.staging import Arena
from flux_speedup.weights.transfer.transfer import transfer

from .models import module_of, size_of
from .rows import Bench


def sweep(bench: Bench, mapping: Mapping) -> None:
    """A row for every combination; where no GPU is, events spin."""
    module = module_of(mapping)
    for chunk in (4, 8, 16):
        arena = Arena(chunk=chunk << 20)
        for threads in (8, 12, 16):
            for blocking in (False, True) if bench.device.type == "cuda" else (False,):

                def lanes(device: torch.device, blocking: bool = blocking) -> Lane:
                    return StreamLane(device, blocking=True) if blocking else lane_for(device)

                run = partial(transfer, arena=arena, threads=threads)
                residency = Residency(module, arena=arena, lanes=lanes, run=run)
                seconds = []
                for _ in range(3):
                    seconds.append(bench.timed(lambda r=residency: r.load(bench.device))[0])
                    residency.unload()
                kind = "sleeping" if blocking else "spinning"
                bench.add(f"sweep: {threads} threads, {chunk} MiB, {kind} events", seconds, size_of(module))
        arena.release()
