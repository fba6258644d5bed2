"""Random loads by Forge Neo's and reForge's memory managers, alone and with ours, on a card that is too small."""

from __future__ import annotations

from pathlib import Path

from tests.integration.other_hosts import checkout
from tests.integration.test_random_loads import SCRIPTS, both, check
from tests.second_device import why_not
from tests.soak.outcome import Outcome


def run(sequences: int, folder: Path) -> Outcome:
    outcome = Outcome("random loads on other hosts")
    hosts = [host for host in SCRIPTS if not why_not() and checkout(host) is not None]
    outcome.figures["hosts"] = hosts
    for host in hosts:
        place = folder / host
        place.mkdir(parents=True)
        for seed, (alone, ours) in enumerate(both(host, place, sequences)):
            outcome.tried += 1
            try:
                check(host, alone, ours)
            except AssertionError as error:
                outcome.finding(f"{host}, seed {seed}: {error}")
    return outcome
