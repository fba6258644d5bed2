"""What the long runs do very often, a few times: nothing at random gets through, raises or answers 500."""

from __future__ import annotations

from tests.soak import bodies, configurations


def test_no_body_at_random_changes_anything_or_ends_in_an_error() -> None:
    outcome = bodies.run(1500)
    assert outcome.wrong == []
    assert {"200", "403", "415", "422"} <= set(outcome.figures["answers"])  # type: ignore[call-overload]


def test_no_configuration_at_random_raises() -> None:
    outcome = configurations.run(3000)
    assert outcome.wrong == []
    assert outcome.figures["values accepted"] > 500  # type: ignore[operator]
