"""How long the WebUI waits for our preload, in fresh processes that have torch and gradio imported already.

Bar: 50 ms.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

from bench import EXTENSION
from bench.record import Record

ONE = """
import torch, gradio, argparse, importlib.util, sys, time
parser = argparse.ArgumentParser()
start = time.perf_counter()
spec = importlib.util.spec_from_file_location("preload.py", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.preload(parser)
print((time.perf_counter() - start) * 1000)
"""


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=7)


def run(given: argparse.Namespace, record: Record) -> int:
    command = [sys.executable, "-c", ONE, str(EXTENSION / "preload.py")]
    seen = []
    for _ in range(given.runs):
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=EXTENSION)
        seen.append(float(done.stdout.splitlines()[-1]))
    figures = {"median": statistics.median(seen), "lowest": min(seen), "highest": max(seen)}
    record.row(name="preload", unit="ms", runs=given.runs, **{k: round(v, 2) for k, v in figures.items()})
    return 0
