"""How long real WebUIs take to start, without and with the extension, in turns, headless and with the page.

    python -m bench start [--webui DIR ...] [--pairs 5] [--variants alone ours ours+pruning=off ...]

Every WebUI in the home folder is started where none is named. Four figures a start: the whole start and "load
scripts", by the WebUI's own start-up timer; the seconds on the clock from the process's start to the first 200, and
the CPU seconds that it and its children took until then, which a busy machine does not change.
Bars, Forge: load scripts 0.1 of before; the whole start 0.70 with the page and 0.76 headless;
`ours+pruning=off+fast_callbacks=off+lazy_apps=off` 0.5 s more at most.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

from bench.clock import Budget
from bench.record import Record
from bench.webui.host import Host, found_below, host_at
from bench.webui.log import startup
from bench.webui.server import Gone, Server, Start
from bench.webui.variants import Variant, variant

MODES = ("headless", "page")
FIGURES = ("first answer", "CPU until then", "whole start", "load scripts")
Each = tuple[float, ...]


def started(host: Host, each: Variant, mode: str) -> Each:
    """Start it once and end it: seconds in the order of FIGURES."""
    with tempfile.TemporaryDirectory() as data:
        start = Start(Path(data) / "data", each.extension, each.flags, page=mode == "page")
        with Server(host, start, Budget(600)) as server:
            return (server.seconds, server.cpu_seconds, *startup(server.said("Startup time")))


def options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--webui",
        type=Path,
        nargs="+",
        default=None,
        metavar="DIR",
        help="checkouts that start; default: all found",
    )
    add("--pairs", type=int, default=5)
    add("--modes", nargs="+", choices=MODES, default=MODES)
    add("--variants", nargs="+", type=variant, default=[variant("alone"), variant("ours")])


def run(given: argparse.Namespace, record: Record) -> int:
    for folder in given.webui or found_below(Path.home()):
        host, about = host_at(folder)
        record.about(webuis=[*record.content.get("webuis", []), about])
        for mode in given.modes:
            seen: dict[str, list[Each]] = defaultdict(list)
            for turn in range(given.pairs):
                # Every other turn the other way round: whoever comes second must not always gain from it.
                for each in given.variants[:: -1 if turn % 2 else 1]:
                    try:
                        seen[each.name].append(started(host, each, mode))
                    except (Gone, IndexError) as gone:
                        record.row(webui=folder.name, mode=mode, variant=each.name, error=str(gone)[-800:])
            told(record, folder.name, mode, seen)
    return 0


def told(record: Record, webui: str, mode: str, seen: dict[str, list[Each]]) -> None:
    """A row for every figure of every variant; `of_before` is the ratio to the first variant's median."""
    for number, figure in enumerate(FIGURES):
        before = 0.0
        for name, starts in seen.items():
            seconds = [start[number] for start in starts]
            middle = statistics.median(seconds)
            before = before or middle
            record.row(
                webui=webui,
                mode=mode,
                figure=figure,
                variant=name,
                starts=len(seconds),
                median=round(middle, 3),
                lowest=round(min(seconds), 3),
                highest=round(max(seconds), 3),
                of_before=round(middle / before, 3) if before else None,
            )
