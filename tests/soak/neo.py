"""test_neo_images in random orders on cards of all sizes: each image and each weight is what the host makes."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

from tests.integration.other_hosts import checkout
from tests.integration.test_neo_images import (
    BESIDE,
    EVERYTHING_FITS,
    NOT_EVEN_ONE,
    ONE_AT_A_TIME,
    REQUESTS,
    different_where_models_take_turns,
    made,
)
from tests.soak.outcome import Outcome


def run(orders: int, folder: Path) -> Outcome:
    outcome = Outcome("random requests to Forge Neo")
    neo_dir = checkout("Forge Neo")
    if neo_dir is None:
        outcome.figures["left out"] = "no Forge Neo"
        return outcome
    for seed in range(orders):
        order = random.Random(seed).sample(list(REQUESTS), len(REQUESTS))
        alone, ours = made(neo_dir, folder / str(seed), order, order, order)
        outcome.tried += 4 * len(order)
        for card in (BESIDE, ONE_AT_A_TIME):
            different = different_where_models_take_turns(ours.on[card], alone.on[EVERYTHING_FITS])
            _report(outcome, f"seed {seed} on {card} GiB", different)
        for card in (EVERYTHING_FITS, NOT_EVEN_ONE):
            mine, theirs = ours.on[card], alone.on[card]
            different = [
                what
                for what in order
                if (mine.images[what], mine.bytes[what]) != (theirs.images[what], theirs.bytes[what])
            ]
            _report(outcome, f"seed {seed} on {card} GiB", different)
        _report(outcome, f"seed {seed}", ours.complaints())
    return outcome


def _report(outcome: Outcome, where: str, different: Iterable[str]) -> None:
    for what in different:
        outcome.finding(f"{where}: {what}")
