"""The fault matrix in full: every kind of file, every call, every way in which it fails."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.faults.matrix import KINDS, rows
from tests.second_device import why_not
from tests.soak.outcome import Outcome


def run(most: int, folder: Path) -> Outcome:
    """`most`: positions of one point."""
    outcome = Outcome("fault matrix")
    if why_not():
        outcome.figures["left out"] = why_not()
        return outcome
    made: Counter[str] = Counter()
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
        for row in rows(folder / kind, kind, most=most):
            outcome.tried += row.faults
            made[row.point] += row.faults
            for problem in row.wrong:
                outcome.finding(f"{kind}: {problem}")
    outcome.figures["faults by point"] = dict(made)
    return outcome
