"""What statistics cost: recording an event (microseconds), the API's reads with a full database (milliseconds).

Every event is made, recorded, logged at INFO to a file and stored in SQLite, as in a WebUI; the thread that logs
and stores runs beside it. Then 10,000 events and as many requests are stored, as `statistics_rows` allows; every
answer goes through FastAPI with its response model. Exits 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
import time
from pathlib import Path

import httpx
from fastapi import FastAPI

from bench.record import Record
from flux_speedup.api import Access, register
from flux_speedup.configuration import config
from flux_speedup.control.acts import Acts
from flux_speedup.control.control import Control
from flux_speedup.control.rules import Rules
from flux_speedup.facts.seen import Decided, Seen
from flux_speedup.hosts.common.names import Names
from flux_speedup.hosts.common.webui import WebUI
from flux_speedup.measuring.measured import Measured, Place
from flux_speedup.memory import MemoryPlan, Tier
from flux_speedup.patching.table import PatchTable
from flux_speedup.stats.events import Event
from flux_speedup.stats.recorder import Recorder
from flux_speedup.stats.requests import PARTS, Pass, Request
from flux_speedup.stats.statistics import Statistics
from flux_speedup.stats.store import Store

RECORDING_BAR_US, READING_BAR_MS = 50.0, 50.0
# A generation records a handful of events; the pauses between bursts let the background thread catch up.
BURST = 20
PATHS = ("stats", "stats?limit=1000", "stats?kind=unload&model=former", "requests", "machine", "metrics")


def recording(count: int, folder: Path) -> list[float]:
    """Microseconds of each of `count` events, sorted."""
    log = logging.Logger("recording", logging.INFO)
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


def filled(path: Path, rows: int) -> None:
    """Store `rows` events and as many requests."""
    parts = dict.fromkeys(PARTS, 0.5)
    passes = (Pass("txt2img", 4.0, parts), Pass("hires", 4.0, parts))
    store = Store(path, max_rows=rows)
    kinds = ("move", "unload", "checkpoint", "startup")
    for first in range(0, rows, 1000):
        numbers = range(first, min(first + 1000, rows))
        store.add(
            [Event(kinds[n % 4], "transformer", n, 0.5, "page cache", "GPU", at=float(n)) for n in numbers]
        )
        store.add([Request(n, "txt2img", "API", float(n), 4.0, parts, passes, n, 1) for n in numbers])
    store.close()


def app(path: Path, rows: int) -> FastAPI:
    """The API over that database."""
    decided = Decided(config.load([]), MemoryPlan(Tier.NONE, "no GPU"), "cpu", page=False)
    nowhere = Place(lambda: None, lambda: None, lambda: None, lambda: "cpu", lambda: False)
    statistics = Statistics(lambda: (path, rows))
    host, table, measured = WebUI(), PatchTable(logging.Logger("x")), Measured(nowhere)
    seen = Seen(host, table, statistics, measured, lambda: decided, tuple)
    acting = Acts(host, table, statistics, measured, seen.look_again)
    made = FastAPI()
    register(made, seen, Access(None, None), Control(acting, Rules(Names, lambda: None)))
    return made


async def reading(made: FastAPI, path: str, times: int) -> list[float]:
    """Milliseconds of each of `times` requests, sorted."""
    took: list[float] = []
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=made), base_url="http://bench") as client:
        for _ in range(times):
            start = time.perf_counter()
            answer = await client.get(f"/flux-speedup/v1/{path}")
            took.append((time.perf_counter() - start) * 1e3)
            answer.raise_for_status()
    return sorted(took)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=int, default=20_000, help="how many are recorded")
    parser.add_argument("--rows", type=int, default=10_000, help="how many are read")
    parser.add_argument("--times", type=int, default=30)


def run(given: argparse.Namespace, record: Record) -> int:
    record.about(settings={"events": given.events, "rows": given.rows})
    missed = False

    def row(name: str, unit: str, median: float, most: float, bar: float | None) -> None:
        record.row(name=name, unit=unit, median=round(median, 2), at_most=round(most, 2), bar=bar)

    with tempfile.TemporaryDirectory() as folder:
        took = recording(given.events, Path(folder))
        most = took[min(len(took) - 1, len(took) * 99 // 100)]
        row("one event (at most: 99 %)", "us", took[len(took) // 2], most, RECORDING_BAR_US)
        missed |= most > RECORDING_BAR_US
        path = Path(folder) / "statistics.sqlite3"
        filled(path, given.rows)
        made = app(path, given.rows)
        for each in PATHS:
            took = asyncio.run(reading(made, each, given.times))
            median, bar = took[len(took) // 2], READING_BAR_MS if each == "stats" else None
            row(f"GET {each}", "ms", median, took[-1], bar)
            missed |= bar is not None and median > bar
    return int(missed)
