"""What one recorded event costs the code that records it: microseconds, median and 99th percentile.

Every event is made, recorded, logged at INFO to a file and stored in SQLite, as in a WebUI; the thread that
logs and stores runs beside it. Exits 1 where the 99th percentile is above the bar.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path

from bench.record import Record
from flux_speedup.stats.events import Event
from flux_speedup.stats.recorder import Recorder
from flux_speedup.stats.store import Store

BAR_US = 50.0
# A generation records a handful of events; the pauses between bursts let the background thread catch up.
BURST = 20


def measure(count: int, folder: Path) -> list[float]:
    """Microseconds of each of `count` events, sorted."""
    log = logging.Logger("event_cost", logging.INFO)
    handler = logging.FileHandler(folder / "log.txt")
    log.addHandler(handler)
    recorder = Recorder(Store(folder / "stats.sqlite3"), log=log)
    took: list[float] = []
    for number in range(count):
        if number % BURST == 0:
            recorder.flush()
        start = time.perf_counter_ns()
        recorder.record(Event("move", "transformer", 23_800_000_000, 0.51, "page cache", "GPU"))
        took.append((time.perf_counter_ns() - start) / 1e3)
    recorder.close()
    handler.close()
    return sorted(took)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=int, default=20_000)


def run(given: argparse.Namespace, record: Record) -> int:
    with tempfile.TemporaryDirectory() as folder:
        took = measure(max(1, given.events), Path(folder))
    median, high = took[len(took) // 2], took[min(len(took) - 1, len(took) * 99 // 100)]
    figures = {"median": round(median, 2), "percentile_99": round(high, 1), "bar": BAR_US}
    record.row(name="one event", unit="us", events=len(took), **figures)
    return 0 if high <= BAR_US else 1
