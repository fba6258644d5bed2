from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_speedup.weights.streaming.order import Cursor, Learner

ROUNDS = st.lists(st.integers(1, 9), max_size=12).map(lambda rest: (0, *rest))


@given(ROUNDS, st.integers(0, 3))
def test_a_round_is_learnt_when_it_begins_anew(whole: tuple[int, ...], more: int) -> None:
    learner = Learner(100)
    told = [learner.note(number) for _ in range(2 + more) for number in whole]
    assert next(one for one in told if one is not None) == whole


@given(ROUNDS, ROUNDS)
def test_another_order_is_believed_once_it_came_twice(first: tuple[int, ...], then: tuple[int, ...]) -> None:
    learner = Learner(100)
    told = [learner.note(number) for whole in (first, first, then, then, then) for number in whole]
    found = [one for one in told if one is not None]
    assert found[0] == first
    assert found[-1] == then


def test_a_single_odd_round_changes_nothing() -> None:
    learner = Learner(100)
    calls = (0, 1, 2, 0, 1, 2, 0, 2, 0, 1, 2, 0, 1, 2, 0)
    assert {learner.note(number) for number in calls} <= {None, (0, 1, 2)}


def test_what_never_begins_anew_is_given_up() -> None:
    learner = Learner(5)
    assert [learner.note(number) for number in range(20)] == [None] * 20


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=30, unique=True),
    st.lists(st.integers(0, 31), max_size=90),
)
def test_the_cursor_is_never_more_than_a_round_ahead_and_never_lost(order: list[int], ran: list[int]) -> None:
    cursor = Cursor(order)
    on_their_way: set[int] = set()
    for number in ran:
        ahead = 0
        while (upcoming := cursor.upcoming()) is not None:
            on_their_way.add(upcoming)
            cursor.brought()
            ahead += 1
        assert ahead <= len(order)
        assert on_their_way == set(order)
        over = cursor.ran(number)
        assert len(set(over)) == len(over)
        assert number not in over
        assert on_their_way.issuperset(over)
        on_their_way -= {number, *over}
        assert {each for each in order if cursor.is_skipped(each)} <= on_their_way


@given(st.permutations(list(range(8))))
def test_followed_exactly_everything_is_expected_and_nothing_passed_over(order: list[int]) -> None:
    cursor = Cursor(order)
    for _ in range(3):
        for number in order:
            assert cursor.upcoming() == number
            cursor.brought()
            assert cursor.ran(number) == ()


def test_what_is_left_out_is_passed_over_once_it_cannot_be_late_any_more() -> None:
    cursor = Cursor(range(40))
    for _ in range(5):
        cursor.brought()
    assert cursor.ran(2) == ()
    assert cursor.is_skipped(0)
    assert cursor.is_skipped(1)
    assert cursor.ran(0) == ()
    assert not cursor.is_skipped(0)
    for number in range(3, 17):
        cursor.brought()
        assert cursor.ran(number) == ()
    cursor.brought()
    assert cursor.ran(17) == (1,)
    assert not cursor.is_skipped(1)


def test_a_new_round_after_an_interruption_is_followed() -> None:
    cursor = Cursor(range(100))
    for number in range(60):
        cursor.brought()
        cursor.ran(number)
    for _ in range(4):
        cursor.brought()
    assert cursor.ran(0) == (60, 61, 62, 63)
    assert cursor.upcoming() == 1


@pytest.mark.parametrize("order", [(), (7,)])
def test_what_is_not_in_the_order_moves_nothing(order: tuple[int, ...]) -> None:
    cursor = Cursor(order)
    assert cursor.ran(3) == ()
    assert cursor.upcoming() == (order[0] if order else None)


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.lists(st.integers(0, 9), max_size=30),
    st.integers(0, 12),
    st.integers(0, 9),
)
def test_one_that_stays_is_left_out_and_the_others_go_on(
    order: list[int], ran: list[int], ahead: int, gone: int
) -> None:
    cursor, whole = Cursor(order), Cursor(order)
    for each in (cursor, whole):
        for number in ran:
            each.ran(number)
        for _ in range(ahead):
            if each.upcoming() is not None:
                each.brought()
    cursor.drop(gone)
    expected: list[int] = []
    for _ in range(2 * len(order)):
        upcoming = whole.upcoming()
        if upcoming is None:  # one more of its round is over
            whole.ran(whole._at(whole._now))
            upcoming = whole.upcoming()
        assert upcoming is not None
        expected += [upcoming] if upcoming != gone else []
        whole.brought()
    seen: list[int] = []
    while len(seen) < len(expected) and cursor.order:
        upcoming = cursor.upcoming()
        if upcoming is None:
            cursor.ran(cursor._at(cursor._now))
            continue
        seen.append(upcoming)
        cursor.brought()
    assert gone not in seen
    assert seen == expected[: len(seen)]
