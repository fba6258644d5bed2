"""Random requests to a real Forge on cards of all sizes: each picture is the one that Forge makes alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.integration import test_forge_streaming as streaming
from tests.integration import test_forge_weights as weights
from tests.second_device import why_not
from tests.soak.outcome import Outcome

AT_ONCE = 10
"""Sequences by one start."""
LENGTH = 20


def run(sequences: int, forge_dir: Path, folder: Path) -> Outcome:
    """`sequences`: of the whole models; for each ten of them there is one of models that stream, with errors."""
    outcome = Outcome("cards")
    if why_not():
        outcome.figures["left out"] = why_not()
        return outcome
    for begin in range(0, sequences, AT_ONCE):
        seeds = range(begin, min(begin + AT_ONCE, sequences))
        place = folder / str(begin)
        alone = weights.run(forge_dir, place / "alone", ["normal"], seeds, ours=False)["normal"].hashes
        for name, seen in weights.on_all(forge_dir, place, seeds).items():
            _compare(outcome, f"seeds {seeds} on {name}", alone, seen.hashes)
        theirs = streaming.run(forge_dir, place / "whole", (), begin, LENGTH)[""].images
        cards = list(streaming.CARDS)
        for name, streamed in streaming.run(forge_dir, place / "streamed", cards, begin, LENGTH).items():
            _compare(outcome, f"seed {begin} on {name}", [*theirs.values()], [*streamed.images.values()])
    return outcome


def _compare(outcome: Outcome, where: str, alone: Sequence[str], ours: Sequence[str]) -> None:
    outcome.tried += len(alone)
    wrong = [number for number, both in enumerate(zip(alone, ours, strict=True)) if both[0] != both[1]]
    if wrong:
        outcome.finding(f"{where}: other pictures, {wrong}")
