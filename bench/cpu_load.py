"""What needs no GPU: the planner's reading against a plain one, re-pointing at unload. Ratios of one run.

Bars: reading through the planner at least 0.9 of the same threads' plain read; re-pointing at most 1 ms a GB.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch

from bench.clock import timed
from bench.flux.files import write
from bench.loads.ours import module_of
from bench.loads.plain import whole_read
from bench.record import Record
from flux_speedup.weights.files.mapping import MAPPINGS, Mapping
from flux_speedup.weights.residency.residency import Residency
from flux_speedup.weights.residency.signature import Signature
from flux_speedup.weights.transfer.lane import PlainLane
from flux_speedup.weights.transfer.plan import CHUNK
from flux_speedup.weights.transfer.staging import Arena
from flux_speedup.weights.transfer.transfer import default_threads, transfer

CARD = torch.device("cpu", 0)
# Blocks in the proportions of a Flux transformer: large matrices, and small vectors between them. Bytes.
BLOCK = {"qkv": (9216, 3072), "scale": (128,), "mlp": (12288, 3072), "bias": (12288,)}
BLOCK_BYTES = 132_145_408


class NowhereLane(PlainLane):
    """A card whose copies cost nothing, so that what remains is planning and reading."""

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        return


class KeepingLane(PlainLane):
    """A card that keeps its memory, so that freeing it is not counted."""

    def __init__(self, device: torch.device, kept: list[torch.Tensor]) -> None:
        super().__init__(device)
        self._kept = kept

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        tensor = super().empty(shape, dtype)
        self._kept.append(tensor)
        return tensor


class Unsigned(Signature):
    """No checksums: what is measured is everything else."""

    def add(self, number: int, tensor: torch.Tensor) -> None:
        return

    def changed(self, tensors: object) -> list[int]:
        return []


def reading(mapping: Mapping, threads: int, repeats: int) -> dict[str, float]:
    """Both ways in turns, so that whatever else the machine does hits both. GB/s and their ratio."""
    module, arena = module_of(mapping), Arena()

    def run(items: object, lane: object, *, arrived: object) -> list[torch.Tensor]:
        return transfer(items, NowhereLane(CARD), arena, threads=threads)  # type: ignore[arg-type]

    plain, planned = [], []
    for _ in range(repeats + 1):
        residency = Residency(module, run=run, signed=Unsigned)
        plain.append(timed(lambda: whole_read(mapping, threads, CHUNK))[0])
        planned.append(timed(lambda each=residency: each.load(CARD))[0])
        residency.unload()
    plain, planned = plain[1:], planned[1:]  # the first makes the arena and fills the page cache
    size = mapping.identity.size / 1e9
    return {
        "plain": round(size / min(plain), 2),
        "planner": round(size / min(planned), 2),
        "ratio": round(min(plain) / min(planned), 3),
        "ratio_of_medians": round(statistics.median(plain) / statistics.median(planned), 3),
    }


def repointing(mapping: Mapping, repeats: int) -> dict[str, float]:
    """Unload with the device memory kept by somebody else, and without reading it for a checksum. ms a GB."""
    module, kept = module_of(mapping), list[torch.Tensor]()
    residency = Residency(module, lanes=lambda device: KeepingLane(device, kept), signed=Unsigned)
    seconds = []
    for _ in range(repeats):
        residency.load(CARD)
        seconds.append(timed(residency.unload)[0])
        kept.clear()
    size = mapping.identity.size / 1e9
    return {
        "best": round(1e3 * min(seconds) / size, 3),
        "median": round(1e3 * statistics.median(seconds) / size, 3),
    }


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--repeats", type=int, default=7)


def run(given: argparse.Namespace, record: Record) -> int:
    blocks = max(1, round(given.gigabytes * 1e9 / BLOCK_BYTES))
    shapes = ((f"blocks.{n}.{name}", shape) for n in range(blocks) for name, shape in BLOCK.items())
    with tempfile.TemporaryDirectory() as folder:
        mapping = MAPPINGS.open(write(Path(folder) / "cpu-load.safetensors", shapes, torch.bfloat16, 0))
        record.about(settings={"threads": given.threads, "bytes": mapping.identity.size})
        record.row(name="reading", unit="GB/s", **reading(mapping, given.threads, given.repeats))
        record.row(name="re-pointing", unit="ms a GB", **repointing(mapping, given.repeats))
    return 0
