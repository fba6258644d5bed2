"""Ray Serve with embedded WebUIs (deploy/ray): who needed a load, what dies and is answered, whose RAM.

Runs in the environment of requirements/serve.txt: `.venv/serve/bin/python -m bench pool --webui-python PYTHON`.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
import time
import urllib.error
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from launcher.environment import ROOT
from launcher.server import Server

from ..record import Record, say
from .ram import shared_files
from .running import V1, Ask, ask, kill_one, picture, processes, running, serving, write_models

SEEDS = 5


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--webui-python", type=Path, required=True, help="that runs the embedded WebUI")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument(
        "--kept", type=int, default=1, help="checkpoints that each keeps beside the one in use"
    )
    parser.add_argument("--only", choices=("ram", "routing"), help="both where it is not given")
    parser.add_argument("--kill-every", type=float, default=20.0, metavar="SECONDS")
    parser.add_argument("--processes", type=int, default=4, help="that share one set of files")


def run(given: argparse.Namespace, record: Record) -> int:
    """1 where a request was not answered, or a picture is not the one that a WebUI alone makes."""
    python = given.webui_python.absolute()
    models = write_models(python)
    names = sorted(path.name for path in (models / "Stable-diffusion").iterdir())
    asked = zipf(names, given.requests)
    record.about(clients=given.clients, replicas=given.replicas, mix=counted(asked), kept=given.kept)
    with tempfile.TemporaryDirectory(prefix="pool-", dir=ROOT / ".cache") as folder:
        for extended in (False, True) if given.only != "routing" else ():
            record.row(
                **shared_files(python, models, Path(folder) / f"ram-{extended}", given.processes, extended)
            )
        if given.only == "ram":
            return 0
        right = alone(python, models, Path(folder) / "alone", sorted(set(asked)))
        bad = 0
        for what, by_model, every in (
            ("Ray Serve's default", False, 0.0),
            ("by checkpoint", True, 0.0),
            ("by checkpoint, replicas killed", True, given.kill_every),
        ):
            data = Path(folder) / what.replace(" ", "-")
            with running(python, models, data, given.replicas, by_model, given.kept) as url:
                found = served(url, asked, given.clients, right, data, every)
            record.row(routing=what, **found)
            bad += found["unanswered"] + found["wrong"]
    return 1 if bad else 0


def zipf(names: Sequence[str], count: int, seed: int = 15) -> list[Ask]:
    """So many requests; the k-th name is asked for 1/k times as often as the first."""
    chance = random.Random(seed)
    weights = [1 / rank for rank in range(1, len(names) + 1)]
    return [(name, chance.randrange(SEEDS)) for name in chance.choices(names, weights, k=count)]


def counted(asked: Sequence[Ask]) -> dict[str, int]:
    """Requests by checkpoint."""
    return {name: sum(each == name for each, _ in asked) for name in sorted({name for name, _ in asked})}


def alone(python: Path, models: Path, data: Path, asked: Sequence[Ask]) -> dict[Ask, str]:
    """What one WebUI without the extension makes of them."""
    (data / "extensions").mkdir(parents=True)
    with Server(python, data, ["--nowebui", "--models-dir", str(models)]) as server:
        return {each: picture(server.url, each, steps=1) for each in asked}


def served(
    url: str, asked: Sequence[Ask], clients: int, right: dict[Ask, str], data: Path, every: float
) -> dict[str, Any]:
    """All of them, in their order, by so many clients at once; a replica is killed `every` so many seconds."""
    ended = threading.Event()
    kills: list[int] = []
    killer = threading.Thread(target=kill, args=(data, every, ended, kills), daemon=True)
    began = time.time()
    if every:
        killer.start()

    def one(wanted: Ask) -> tuple[str, float]:
        started = time.perf_counter()
        try:
            made = picture(url, wanted, steps=1)
        except OSError as error:
            told = error.read().decode() if isinstance(error, urllib.error.HTTPError) else ""
            say(f"{wanted}: {error} {told}")
            return "unanswered", time.perf_counter() - started
        return "right" if made == right[wanted] else "wrong", time.perf_counter() - started

    with ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(one, asked))
    seconds = time.time() - began
    ended.set()
    came = [
        each["source"] for each in ask(url, f"{V1}/stats?kind=checkpoint&limit=1000&since={began}")["events"]
    ]
    waits = sorted(wait for _, wait in answers)
    return {
        "requests": len(asked),
        "seconds": round(seconds, 1),
        "unanswered": sum(how == "unanswered" for how, _ in answers),
        "wrong": sum(how == "wrong" for how, _ in answers),
        "loaded": sum(source != "kept" for source in came),
        "kept": sum(source == "kept" for source in came),
        "loads_share": round(sum(source != "kept" for source in came) / len(asked), 3),
        "wait_median_s": round(waits[len(waits) // 2], 2),
        "wait_p95_s": round(waits[len(waits) * 95 // 100], 2),
        "killed": len(kills),
    }


def kill(data: Path, every: float, ended: threading.Event, done: list[int]) -> None:
    """The WebUI itself and Ray's process that has it, in turns; each time once all are there again."""
    count = len(processes(data))
    chance = random.Random(20)
    while not ended.wait(every):
        while len(up := serving(data)) < count:
            if ended.wait(0.5):
                return
        done.append(pid := chance.choice(up))
        kill_one(pid, len(done) % 2 == 0)
