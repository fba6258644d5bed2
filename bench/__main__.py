"""`python -m bench NAME ...`: the one front."""

from __future__ import annotations

import importlib
import sys

BENCHES = {
    "webui": ("bench.webui.command", "a whole WebUI over its API, without and with the extension"),
    "loads": ("bench.loads.command", "Flux's weights to a GPU: ours, the machine's own speed, other loaders"),
    "startup": ("bench.startup", "starts of a real Forge, without and with the extension"),
    "preload": ("bench.preload", "what the WebUI waits for our preload"),
    "cpu-load": ("bench.cpu_load", "planning, reading and re-pointing, without a GPU"),
    "adetailer-models": ("bench.adetailer_models", "ADetailer's list of models without a network"),
    "page": ("bench.page.command", "docs/benchmarks.md and its pictures, from the JSON files beside it"),
    "event-cost": ("bench.event_cost", "recording one event of the statistics"),
    "stats-cost": ("bench.stats_cost", "the API's reads with a full database"),
}


def main(words: list[str]) -> int:
    if not words or words[0] not in BENCHES:
        print("python -m bench NAME ..., and --help after a name tells its options\n")
        for name, (_, what) in BENCHES.items():
            print(f"  {name:16} {what}")
        return 0 if words[:1] in ([], ["--help"], ["-h"]) else 2
    status: int = importlib.import_module(BENCHES[words[0]][0]).main(words[1:])
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
