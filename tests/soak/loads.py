"""Random loads by Forge Neo's and reForge's memory managers, alone and with ours, on a card that is too small."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.integration.other_hosts import checkout
from tests.integration.test_random_loads import SCRIPTS, WHERE_TWO_FIT, both, check, shows
from tests.second_device import why_not
from tests.soak.outcome import Outcome

LARGER = {"Forge Neo": 40}
"""MiB of every second sequence's card."""


def run(sequences: int, folder: Path) -> Outcome:
    outcome = Outcome("random loads on other hosts")
    hosts = [host for host in SCRIPTS if not why_not() and checkout(host) is not None]
    outcome.figures["hosts"] = hosts
    for host in hosts:
        place = folder / host
        place.mkdir(parents=True)
        # On cards of other sizes, too.
        played = [(seed, LARGER.get(host, 0) * (seed % 2)) for seed in range(sequences)]
        played += [(3, WHERE_TWO_FIT)] * (host in LARGER)
        found = both(host, place, played)
        outcome.tried += len(found)
        for (seed, mib), (alone, ours) in zip(played, found, strict=True):
            _report(outcome, f"{host}, seed {seed}, {mib} MiB", partial(check, alone, ours))
        _report(outcome, host, partial(shows, host, [ours for _, ours in found]))
        outcome.figures[f"alone wrong on {host}"] = sum(sum(alone["lora is wrong"]) for alone, _ in found)
    return outcome


def _report(outcome: Outcome, where: str, check: Callable[[], None]) -> None:
    try:
        check()
    except AssertionError as error:
        line = traceback.extract_tb(error.__traceback__)[-1].line
        outcome.finding(f"{where}: not so: {line} {error}")
