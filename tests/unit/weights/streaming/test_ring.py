from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flux_speedup.weights.streaming.ring import ALIGN, Place, Ring, ring_bytes

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["place", "use", "done", "drop", "forget"]), st.integers(0, 6), st.integers(1, 6)
    ),
    max_size=150,
)


@given(ACTIONS, st.integers(1, 12))
def test_no_place_is_handed_out_twice_and_every_mark_is_passed_on(
    actions: list[tuple[str, int, int]], size: int
) -> None:
    ring = Ring(size * ALIGN)
    held: list[Place] = []  # whatever must not be overwritten without its marks
    marks = 0
    for action, unit, length in actions:
        found = ring.find(unit)
        if action == "place":
            answer = ring.place(unit, length * ALIGN, lambda: "made")
            if answer is None:
                assert length > size or any(not place.free for place in held)
                continue
            new, after = answer
            assert 0 <= new.start < new.end <= ring.size
            assert new.end - new.start == length * ALIGN
            covered = [old for old in held if old.start < new.end and new.start < old.end]
            assert all(old.free for old in covered)
            assert {mark for old in covered for mark in old.computed or ["made"]} <= set(after)
            assert ("made" in after) is any(not old.computed for old in covered)
            held = [old for old in held if old not in covered]
            held.append(new)
            assert ring.find(unit) is new
        elif found is not None and action == "use":
            found.expected, found.users = False, found.users + 1
        elif found is not None and action == "done" and found.users:
            marks += 1
            found.computed.append(marks)
            found.users -= 1
        elif found is not None and action == "drop":
            found.expected = False
        elif action == "forget":
            ring.forget(unit)
            assert ring.find(unit) is None
        for place in held:
            if ring.find(place.unit) is place:
                assert place in held


def never() -> str:
    raise AssertionError("nothing was brought there in vain")


def test_marks_of_a_place_that_was_not_written_are_not_lost() -> None:
    ring = Ring(4 * ALIGN)
    large, _ = ring.place(0, 4 * ALIGN, never) or (None, None)
    assert large is not None
    large.expected = False
    large.computed.append("still read")
    _, marks = ring.place(1, ALIGN, never) or (None, [])
    ring.hand_back(1, marks)
    beside = ring.place(2, 2 * ALIGN, lambda: "made")
    assert beside is not None
    assert (beside[0].start, beside[1]) == (ALIGN, ["still read"])
    assert ring.place(3, ALIGN, never) == (ring.find(3), [])


def test_what_nobody_computed_with_was_still_waited_for() -> None:
    ring = Ring(2 * ALIGN)
    for unit in (0, 1):
        answer = ring.place(unit, ALIGN, never)
        assert answer is not None
        answer[0].expected = False
    answer[0].computed.append("computed")
    assert ring.place(2, ALIGN, lambda: "made") == (ring.find(2), ["made"])
    assert ring.place(3, ALIGN, never) == (ring.find(3), ["computed"])


def test_what_is_too_large_has_no_place() -> None:
    assert Ring(ALIGN).place(0, ALIGN + 1, never) is None


def test_places_go_round() -> None:
    ring = Ring(4 * ALIGN)
    starts = []
    for unit in range(12):
        place, _ = ring.place(unit, ALIGN, lambda: "made") or (None, None)
        assert place is not None
        place.expected = False
        starts.append(place.start // ALIGN)
    assert starts == [0, 1, 2, 3] * 3
    assert ring.find(8) is not None
    assert ring.find(7) is None


@given(st.integers(0, 10**11), st.integers(1, 10**9), st.integers(1, 10**9))
def test_a_ring_has_room_for_two_of_the_largest(room: int, largest: int, most: int) -> None:
    size = ring_bytes(room, largest, most)
    assert size >= 2 * largest
    assert size % ALIGN == 0
    assert size <= max(most, 2 * (largest + ALIGN))
