"""`python -m bench NAME ...`: the one front. A program has `options(parser)` and `run(given, record)`."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from pathlib import Path

from bench.record import Record

PROGRAMS = {
    "webui": ("bench.webui.command", "a whole WebUI over its API, without and with the extension"),
    "loads": ("bench.loads.command", "Flux's weights to a GPU: ours, the machine's own speed, other loaders"),
    "start": ("bench.start", "starts of real WebUIs, without and with the extension"),
    "preload": ("bench.preload", "what the WebUI waits for our preload"),
    "pool": ("bench.pool.command", "many WebUIs behind Ray Serve: loads, deaths, shared RAM (deploy/ray)"),
    "dashboard": (
        "bench.pool.dashboard",
        "the panels of deploy/grafana over a pool at work, by Prometheus itself",
    ),
    "page": ("bench.page.command", "docs/benchmarks.md and its pictures, from the JSON files beside it"),
}


def main(words: list[str]) -> int:
    """Run a program; its exit status, 1 where a bar was missed or pictures differ."""
    if not words or words[0] not in PROGRAMS:
        print("python -m bench NAME ..., and --help after a name tells its options\n")
        print("\n".join(f"  {name:16} {what}" for name, (_, what) in PROGRAMS.items()))
        return 0 if words[:1] in ([], ["--help"], ["-h"]) else 2
    name = words[0]
    program = importlib.import_module(PROGRAMS[name][0])
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(f"bench {name}", description=program.__doc__, formatter_class=raw)
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="where the figures are kept")
    program.options(parser)
    given = parser.parse_args(words[1:])
    record = Record(name, given.json)
    status: int = program.run(given, record)
    record.end()
    return status


if __name__ == "__main__":
    # As Ctrl+C: what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(sys.argv[1:]))
