"""How long the WebUI waits for our preload, in fresh processes that have torch and gradio imported already.

Bar: 50 ms.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from bench.places import EXTENSION
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


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser("bench preload", description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path, default=None, metavar="FILE")
    given = parser.parse_args(words)
    record = Record("preload", given.json)
    command = [sys.executable, "-c", ONE, str(EXTENSION / "preload.py")]
    seen = []
    for _ in range(given.runs):
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=EXTENSION)
        seen.append(float(done.stdout.splitlines()[-1]))
    figures = {"median": statistics.median(seen), "lowest": min(seen), "highest": max(seen)}
    record.row(name="preload", unit="ms", runs=given.runs, **{k: round(v, 2) for k, v in figures.items()})
    record.end()
    return 0
