"""The plan covers every requested byte once, in order, in chunks within their limit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_speedup.weights.transfer.plan import ALIGN, CHUNK, GAP, Part, Request, make_plan, plan_of

requests = st.lists(
    st.builds(
        Request,
        source=st.integers(0, 2),
        offset=st.integers(0, 5000),
        length=st.integers(0, 900),
        dest=st.just(0),
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=200)
@given(requests, st.integers(ALIGN, 2000), st.integers(0, 300))
def test_every_byte_arrives_once_from_where_it_was_asked(asked: list[Request], chunk: int, gap: int) -> None:
    asked = [Request(r.source, r.offset, r.length, n) for n, r in enumerate(asked)]
    seen: dict[int, list[tuple[int, int]]] = {r.dest: [] for r in asked}
    last: dict[int, int] = {}
    for piece in make_plan(asked, chunk=chunk, gap=gap):
        assert 0 < piece.length <= chunk
        assert piece.offset >= last.get(piece.source, 0)
        last[piece.source] = piece.offset
        covered = []
        for part in piece.parts:
            request = asked[part.dest]
            assert request.source == piece.source
            assert part.length > 0
            assert 0 <= part.slot_offset <= part.slot_offset + part.length <= piece.length
            assert piece.offset + part.slot_offset == request.offset + part.dest_offset
            seen[part.dest].append((part.dest_offset, part.dest_offset + part.length))
            covered.append((part.slot_offset, part.slot_offset + part.length))
        assert min(covered)[0] == 0
        assert max(end for _, end in covered) == piece.length
        reached = 0
        for begin, end in sorted(covered):
            assert begin - reached <= gap
            reached = max(reached, end)
    for request in asked:
        position = 0
        for begin, end in sorted(seen[request.dest]):
            assert begin == position
            position = end
        assert position == request.length


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=12), st.integers(ALIGN, 500))
def test_no_element_of_an_aligned_tensor_is_cut(sizes: list[int], chunk: int) -> None:
    asked, position = [], 8
    for number, size in enumerate(sizes):
        position += -position % size
        asked.append(Request(0, position, 37 * size, number))
        position += 37 * size
    for piece in make_plan(asked, chunk=chunk, gap=8):
        for part in piece.parts:
            assert part.dest_offset % sizes[part.dest] == 0
            assert part.length % sizes[part.dest] == 0


def test_neighbours_share_a_chunk() -> None:
    (chunk,) = make_plan([Request(0, 1000, 8, 1), Request(0, 8, 992, 0)])
    assert (chunk.offset, chunk.length) == (8, 1000)
    assert chunk.parts == (Part(0, 0, 0, 992), Part(1, 0, 992, 8))


def test_a_wide_gap_splits_and_a_narrow_one_does_not() -> None:
    assert len(make_plan([Request(0, 0, 8, 0), Request(0, 8 + GAP, 8, 1)])) == 1
    assert len(make_plan([Request(0, 0, 8, 0), Request(0, 9 + GAP, 8, 1)])) == 2


def test_a_large_tensor_goes_in_full_chunks() -> None:
    chunks = make_plan([Request(0, 64, 5 * CHUNK, 0)])
    assert [chunk.length for chunk in chunks] == [CHUNK] * 5


def test_a_chunk_too_small_to_keep_elements_whole_is_refused() -> None:
    with pytest.raises(ValueError, match="below"):
        make_plan([], chunk=ALIGN - 1)


@settings(deadline=None, max_examples=100)
@given(requests, st.integers(ALIGN, 2000))
def test_pieces_of_a_destination_are_numbered_in_its_order(asked: list[Request], chunk: int) -> None:
    asked = [Request(r.source, r.offset, r.length, n) for n, r in enumerate(asked)]
    plan = plan_of(tuple(asked), chunk)
    assert plan.chunks == make_plan(asked, chunk=chunk)
    assert plan_of(tuple(asked), chunk) is plan, "the same is asked at each load of a model"
    assert list(plan.cuts) == list(dict.fromkeys(part.dest for one in plan.chunks for part in one.parts))
    assert {dest: sum(cuts) for dest, cuts in plan.cuts.items()} == {
        r.dest: r.length for r in asked if r.length
    }
    for part in (part for one in plan.chunks for part in one.parts):
        number = plan.number[part.dest, part.dest_offset]
        assert sum(plan.cuts[part.dest][:number]) == part.dest_offset
        assert plan.cuts[part.dest][number] == part.length
