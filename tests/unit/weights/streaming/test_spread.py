from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flux_speedup.weights.streaming.giving_way import fitting, leaving
from flux_speedup.weights.streaming.spread import Cost, streamed

COSTS = st.lists(
    st.builds(Cost, st.integers(1, 100), st.one_of(st.just(0.0), st.floats(0.001, 5.0))), max_size=40
)


@given(COSTS, st.integers(-10, 4000))
def test_enough_is_streamed_and_no_unit_too_many(costs: list[Cost], least: int) -> None:
    chosen = streamed(costs, least)
    size = sum(costs[index].bytes for index in chosen)
    assert size >= min(least, sum(cost.bytes for cost in costs))
    assert all(size - costs[index].bytes < least for index in chosen)
    assert chosen == sorted(set(chosen))


@given(st.integers(20, 200), st.floats(0.1, 0.9))
def test_equal_units_are_spread_evenly(count: int, share: float) -> None:
    costs = [Cost(10, 1.0)] * count
    chosen = streamed(costs, int(share * 10 * count))
    for upto in range(count):
        ideal = share * (upto + 1)
        assert abs(sum(index <= upto for index in chosen) - ideal) <= 2


def test_where_computing_takes_longer_more_is_streamed() -> None:
    slow, quick = [Cost(10, 9.0)] * 20, [Cost(10, 1.0)] * 20
    chosen = streamed([*slow, *quick], 200)
    assert sum(index < 20 for index in chosen) >= 17


def test_one_unit_that_was_not_measured_makes_bytes_decide() -> None:
    costs = [Cost(10, 9.0)] * 20 + [Cost(10, 1.0)] * 19 + [Cost(10)]
    assert sum(index < 20 for index in streamed(costs, 200)) in (9, 10, 11)


@given(COSTS, st.data())
def test_units_leave_until_there_is_room_and_only_units_that_stay(
    costs: list[Cost], data: st.DataObject
) -> None:
    staying = data.draw(st.sets(st.sampled_from(range(len(costs))))) if costs else set()
    size = data.draw(st.integers(0, 3000))
    gone = leaving(costs, staying, size)
    assert set(gone) <= staying
    left = sum(costs[index].bytes for index in staying) - sum(costs[index].bytes for index in gone)
    assert left == 0 or sum(costs[index].bytes for index in gone) >= size


@given(COSTS, st.integers(0, 4000), st.integers(1, 2000))
def test_they_come_back_to_the_same_places(costs: list[Cost], budget: int, size: int) -> None:
    first = fitting(costs, (), budget)
    assert first.leave == ()
    assert sum(costs[index].bytes for index in first.come) <= budget
    gone = leaving(costs, first.come, size)
    back = fitting(costs, set(first.come) - set(gone), budget)
    assert back.come == gone
    assert back.leave == ()


@given(COSTS)
def test_everything_stays_where_everything_fits(costs: list[Cost]) -> None:
    total = sum(cost.bytes for cost in costs)
    assert fitting(costs, (), total).come == tuple(range(len(costs)))
    if costs:
        assert len(fitting(costs, (), total - 1).come) < len(costs)
