"""Configurations and API bodies at random: nothing raises, and whatever comes out keeps its kind's promise."""

from __future__ import annotations

import json
import random
import string
from typing import Any

from flux_speedup.configuration import config
from flux_speedup.configuration.config import SETTINGS, Source
from tests.soak.outcome import Outcome

WORDS = (
    "on",
    "off",
    "auto",
    "large",
    "standard",
    "as configured",
    "null",
    "nan",
    "inf",
    "-1",
    "1e400",
    "0x10",
    "٣",
    "",
)


def value(rng: random.Random, depth: int = 0) -> Any:
    """Anything that a JSON file, an environment variable or a person could put there."""
    kind = rng.randrange(11 if depth < 3 else 7)
    if kind == 0:
        return rng.choice((None, True, False))
    if kind == 1:
        return rng.choice((0, -1, 1, 2**63, -(2**70), rng.randrange(10_000)))
    if kind == 2:
        return rng.choice((0.0, -0.0, 0.5, 1e308, float("nan"), float("inf"), -float("inf"), rng.random()))
    if kind <= 5:
        return rng.choice(WORDS)
    if kind == 6:
        return "".join(rng.choice(string.printable + "äß\u2028\ud800\x00") for _ in range(rng.randrange(12)))
    if kind <= 8:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {str(value(rng, 9)): value(rng, depth + 1) for _ in range(rng.randrange(4))}


def key(rng: random.Random) -> str:
    known = rng.choice(list(SETTINGS))
    if rng.random() < 0.8:
        return known
    spoiled = list(known)
    spoiled.insert(rng.randrange(len(spoiled) + 1), rng.choice(string.ascii_letters + "_- "))
    return "".join(spoiled)


def run(count: int, seed: int = 0) -> Outcome:
    """`count` configurations of one to three sources each."""
    outcome = Outcome("configurations")
    rng = random.Random(seed)
    accepted = 0
    for number in range(count):
        sources = [
            Source(f"source {n}", {key(rng): value(rng) for _ in range(rng.randrange(5))})
            for n in range(rng.randrange(1, 4))
        ]
        outcome.tried += 1
        try:
            loaded = config.load(sources)
        except Exception as error:
            outcome.finding(f"number {number}: {type(error).__name__}: {error}: {sources!r}"[:400])
            continue
        for name, kind in ((key, each.kind) for key, each in SETTINGS.items()):
            chosen = getattr(loaded.config, name)
            if loaded.origin[name] == "built-in default":
                continue
            accepted += 1
            # What was accepted is accepted again, as itself: in a file, in the environment, over the API.
            again = kind.parse(list(chosen) if isinstance(chosen, tuple) else chosen)
            if again != chosen:
                outcome.finding(f"number {number}: {name} = {chosen!r} comes back as {again!r}")
            json.dumps(chosen, allow_nan=False)
    outcome.figures["values accepted"] = accepted
    return outcome
