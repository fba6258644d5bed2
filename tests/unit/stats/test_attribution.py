"""Each second of a request counts once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_speedup.stats.attribution import Account
from flux_speedup.stats.requests import PARTS

OPEN = st.tuples(st.just("open"), st.sampled_from(PARTS), st.sampled_from([None, None, "txt2img", "hires"]))
CLOSE = st.tuples(st.just("close"), st.just(""), st.none())
CHARGE = st.tuples(st.just("charge"), st.sampled_from(["load", "move", "unload"]), st.none())
STEPS = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 300), st.one_of(OPEN, CLOSE, CHARGE)), max_size=60)


def account(at: float = 100.0) -> Account:
    return Account(at)


@given(STEPS, st.floats(0, 100))
def test_parts_are_the_whole_whatever_is_nested(
    steps: list[tuple[float, float, tuple[str, str, str | None]]], rest: float
) -> None:
    began = now = 1000.0
    made = Account(began)
    opened: list[int] = []
    for passed, seconds, (what, part, name) in steps:
        now += passed
        if what == "open":
            opened.append(made.open(now, part, name))
        elif what == "close" and opened:
            made.close(now, opened.pop())
        elif what == "charge":
            # It may claim to have begun before anything did: then what is known of it counts.
            made.charge(now, seconds, part)
        so_far = made.sums(now)
        assert sum(so_far.parts.values()) == so_far.seconds == pytest.approx(now - began, abs=1e-6)
        assert all(value >= 0 for value in so_far.parts.values())
    now += rest
    while opened:
        made.close(now, opened.pop())
    ended = made.sums(now)
    assert ended.seconds == pytest.approx(now - began, abs=1e-6)
    assert list(ended.parts) == [part for part in PARTS if part in ended.parts]
    assert sum(each.seconds for each in ended.passes) <= ended.seconds + 1e-6
    for each in ended.passes:
        assert sum(each.parts.values()) == each.seconds


def test_a_stage_counts_what_is_left_of_it() -> None:
    made = account()
    whole = made.open(101, "other", "txt2img")
    encoding = made.open(102, "text encoding")
    made.charge(105, 2, "move")
    made.close(106, encoding)
    sampling = made.open(107, "sampling")
    made.close(117, sampling)
    made.close(118, whole)
    sums = made.sums(120)
    assert sums.parts == {"move": 2, "text encoding": 2, "sampling": 10, "other": 6}
    (one,) = sums.passes
    assert (one.name, one.seconds) == ("txt2img", 17)
    assert one.parts == {"move": 2, "text encoding": 2, "sampling": 10, "other": 3}


def test_an_event_around_others_counts_what_is_left_of_it() -> None:
    made = account()
    loading = made.open(100, "load")
    made.charge(104, 3, "unload")  # 101 to 104
    made.charge(109, 8.5, "load")  # 100.5 to 109, the unload inside
    made.charge(111, 1, "move")
    made.close(112, loading)
    assert made.sums(112).parts == {"load": 8, "move": 1, "unload": 3}


def test_a_pass_of_a_detector_is_named_apart_and_its_loading_is_loading() -> None:
    made = account()
    whole = made.open(100, "other", "txt2img")
    assert not made.in_detector()
    detector = made.open(110, "adetailer")
    assert made.in_detector()
    inner = made.open(115, "other", "ADetailer 1")
    assert made.detector_passes() == 1
    sampling = made.open(116, "sampling")
    made.charge(118, 1, "move")
    made.close(126, sampling)
    made.close(127, inner)
    made.close(130, detector)
    assert not made.in_detector()
    made.close(131, whole)
    sums = made.sums(131)
    assert sums.parts == {"move": 1, "adetailer": 19, "other": 11}
    first, second = sums.passes
    assert first.parts == {"adetailer": 8, "other": 11}
    assert second.parts == {"move": 1, "sampling": 9, "other": 2}


def test_closing_closes_what_was_left_open_inside() -> None:
    made = account()
    outer = made.open(101, "load")
    made.open(102, "move")
    made.close(104, outer)
    assert made.sums(105).parts == {"load": 1, "move": 2, "other": 2}
