"""How long a real Forge takes to start without and with the extension, in turns, headless and with its page.

Three figures a start: its whole start and its "load scripts", both from its own start-up timer, and the seconds on
the clock from the process's start to the first 200 (of /sdapi/v1/options, or of the page). Standard library only.
Bars: load scripts 0.1 of before; the whole start 0.70 with the page and 0.76 headless; --variants gains-off shows
what the extension itself adds, 0.5 s at most.

    python -m bench startup FORGE [--pairs 5] [--modes headless page] [--variants as-it-is with gains-off ...]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from bench.record import Record
from tests.integration.forge import EXTENSION, START_S, Forge

BASE = "as-it-is"
OFF = "off"
# Name -> the configuration keys that are turned off; the first variant is a WebUI without the extension.
VARIANTS: dict[str, tuple[str, ...] | None] = {
    BASE: None,
    "with": (),
    "callbacks-only": ("pruning", "lazy_apps"),
    "pruning-only": ("fast_callbacks", "lazy_apps"),
    "apps-only": ("fast_callbacks", "pruning"),
    "without-apps": ("lazy_apps",),
    "gains-off": ("pruning", "fast_callbacks", "lazy_apps"),
}
MODES = {"headless": (("--nowebui", "--api"), "/sdapi/v1/options"), "page": (("--api",), "/")}
FIGURES = ("whole start", "load scripts", "first answer")


class Timed(Forge):
    """A Forge that is asked for one address from its first moment on; `answered` is when it said 200."""

    first = "/"
    started = answered = 0.0

    def __enter__(self) -> Timed:
        self.started = time.perf_counter()
        super().__enter__()
        return self

    def wait_until_up(self, starts: int = 1) -> None:
        end = self.started + START_S
        while not self.answered and time.perf_counter() < end and self._process.poll() is None:
            if self._says_200():
                self.answered = time.perf_counter()
            else:
                time.sleep(0.02)
        super().wait_until_up(starts)

    def _says_200(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + self.first, timeout=5) as answer:
                return answer.status == 200
        except urllib.error.HTTPError as refused:
            refused.close()
        except OSError:
            pass
        return False


@dataclass(frozen=True)
class Start:
    """One start, in seconds, in the order of FIGURES."""

    whole: float
    scripts: float
    answer: float


def start(forge: Path, mode: str, variant: str) -> Start:
    """Start Forge once and end it."""
    flags, first = MODES[mode]
    off = VARIANTS[variant]
    extensions = {} if off is None else {"flux-speedup": EXTENSION}
    more = [word for key in off or () for word in ("--flux-speedup-" + key.replace("_", "-"), OFF)]
    with tempfile.TemporaryDirectory() as data:
        made = Timed(forge, Path(data) / "data", flags=(*flags, *more), extensions=extensions)
        made.first = first
        with made as running:
            seen = running.get("/probe/startup")
            return Start(
                seen["total"], seen["records"].get("load scripts", 0.0), running.answered - running.started
            )


def report(record: Record, mode: str, seen: dict[str, list[Start]]) -> None:
    """A row for every figure of every variant: median, range, and its ratio to the WebUI as it is."""
    for number, figure in enumerate(FIGURES):
        base = 0.0
        for name, starts in seen.items():
            seconds = [(s.whole, s.scripts, s.answer)[number] for s in starts]
            middle = statistics.median(seconds)
            base = middle if name == BASE else base
            row = {
                "median": round(middle, 3),
                "lowest": round(min(seconds), 3),
                "highest": round(max(seconds), 3),
            }
            more = {"of_before": round(middle / base, 3)} if base and name != BASE else {}
            record.row(mode=mode, figure=figure, variant=name, starts=len(starts), **row, **more)


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser("bench startup", description=__doc__.splitlines()[0])
    parser.add_argument("forge", type=Path, help="a Forge checkout with its venv")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[BASE, "with"])
    parser.add_argument("--json", type=Path, default=None, metavar="FILE")
    given = parser.parse_args(words)
    record = Record("startup", given.json)
    for mode in given.modes:
        seen: dict[str, list[Start]] = {name: [] for name in given.variants}
        for turn in range(given.pairs):
            # Every other turn the other way round: whoever comes second must not always gain from it.
            for name in given.variants if turn % 2 == 0 else given.variants[::-1]:
                seen[name].append(start(given.forge, mode, name))
        report(record, mode, seen)
    record.end()
    return 0
