"""What a hash in the background costs the thread that computes: its speed without and with one, as a ratio.

Windows with and without hashing take turns, so that what else the machine does is in both. The thread starts many
short operations, as sampling does: on a GPU where there is one, else on one core. Exits 1 above the bar.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from bench.clock import synchronize
from bench.record import Record
from flux_speedup.storage.sidecar import Sidecar
from flux_speedup.weights.files.file_digests import FileDigests

BAR = 1.02
GB = 10**9


def steps(matrix: torch.Tensor, seconds: float) -> float:
    """Operations a second for so long, the device's part included."""
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(20):
            matrix = torch.relu(matrix @ matrix).clamp_(max=1.0)
        count += 20
        synchronize(matrix.device)
    return count / (time.perf_counter() - start)


def measure(file: Path, windows: int, seconds: float, size: int) -> tuple[float, float]:
    """Medians of operations a second: without hashing, and with it."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)
    matrix = torch.rand(size, size, device=device)
    digests = FileDigests(Sidecar(None))
    without: list[float] = []
    beside: list[float] = []
    steps(matrix, seconds)
    with digests.gate.computing():
        digests.begin(file)
        time.sleep(0.1)  # the piece that was under way
        without.append(steps(matrix, seconds))
    while len(beside) < windows and digests.under_way(file):
        for found, gate in ((beside, nullcontext()), (without, digests.gate.computing())):
            pause: AbstractContextManager[None] = gate
            with pause:
                time.sleep(0.05)
                found.append(steps(matrix, seconds))
    digests.stop()
    return statistics.median(without), statistics.median(beside)


def options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--windows", type=int, default=40)
    add("--seconds", type=float, default=0.2, help="of a window")
    add("--gb", type=float, default=20.0, help="size of the file that is hashed; it takes no room")
    add("--matrix", type=int, default=256)


def run(given: argparse.Namespace, record: Record) -> int:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "weights.safetensors")
        with file.open("wb") as made:
            made.truncate(int(given.gb * GB))
        without, beside = measure(file, given.windows, given.seconds, given.matrix)
    slower = without / beside
    figures = {
        "without": round(without),
        "with_hashing": round(beside),
        "slower": round(slower, 3),
        "bar": BAR,
    }
    record.row(name="operations a second", unit="1/s", **figures)
    return 0 if slower <= BAR else 1
