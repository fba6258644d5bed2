"""test_neo_images in random orders on cards of all sizes: each image and each weight is what the host makes."""

from __future__ import annotations

import random
from pathlib import Path

from tests.integration.other_hosts import checkout
from tests.integration.test_neo_images import EVERYTHING_FITS, NOT_EVEN_ONE, ONE_AT_A_TIME, REQUESTS, made
from tests.soak.outcome import Outcome


def run(orders: int, folder: Path) -> Outcome:
    outcome = Outcome("random requests to Forge Neo")
    neo_dir = checkout("Forge Neo")
    if neo_dir is None:
        outcome.figures["left out"] = "no Forge Neo"
        return outcome
    for seed in range(orders):
        order = random.Random(seed).sample(list(REQUESTS), len(REQUESTS))
        alone, ours = made(neo_dir, folder / str(seed), order, order)
        for card, theirs in (
            (EVERYTHING_FITS, EVERYTHING_FITS),
            (ONE_AT_A_TIME, EVERYTHING_FITS),
            (NOT_EVEN_ONE, NOT_EVEN_ONE),
        ):
            outcome.tried += len(order)
            for what in order:
                if (ours.on[card].images[what], ours.on[card].bytes[what]) != (
                    alone.on[theirs].images[what],
                    alone.on[theirs].bytes[what],
                ):
                    outcome.finding(f"seed {seed} on {card} GiB: another image or weight, {what}")
    return outcome
