"""A fixed part stays in the page cache; a file that is larger than the cache is not read in vain."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.files.pagecache import resident_fraction
from flux_speedup.weights.streaming.cached import PERIOD_S, CachedPart
from flux_speedup.weights.streaming.staged import Staged
from flux_speedup.weights.streaming.supply import Load
from flux_speedup.weights.streaming.timeline import PlainTimeline
from flux_speedup.weights.transfer.staging import Arena


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=20), room=st.integers(0, 400))
def test_the_same_part_stays_in_every_round_and_fits(sizes: list[int], room: int) -> None:
    part = CachedPart(lambda: room, lambda: 0.0)
    rounds = [[part.stays(number, size) for number, size in enumerate(sizes)] for _ in range(3)]
    assert rounds[0] == rounds[1] == rounds[2]
    kept = sum(size for size, stays in zip(sizes, rounds[0], strict=True) if stays)
    assert kept <= room
    if sum(sizes) <= room:
        assert all(rounds[0])


def test_what_is_not_read_any_more_makes_room_and_less_room_lets_the_last_go() -> None:
    now, room = [0.0], [30]
    part = CachedPart(lambda: room[0], lambda: now[0])
    assert [part.stays(one, 10) for one in "abcd"] == [True, True, True, False]
    for _ in range(2):
        now[0] += PERIOD_S
        seen = [part.stays(one, 10) for one in "bcd"]
    assert seen == [True, True, True]
    room[0] = 20
    now[0] += PERIOD_S
    assert [part.stays(one, 10) for one in "bcd"] == [True, True, False]


@pytest.mark.skipif(sys.platform != "linux", reason="advises on Linux")
def test_the_rest_of_a_file_has_left_the_page_cache_once_it_was_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    saved = {str(number): torch.randn(256, 1024) for number in range(8)}
    save_file(saved, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())  # dirty pages do not go
    registry = Registry()
    views = registry.open(path).views()
    timeline = PlainTimeline(torch.device("cpu"))
    arena = Arena(limit=1 << 20, chunk=1 << 17)
    part = CachedPart(lambda: 2 << 20)
    supply = Staged(timeline, registry, "page cache", 2, arena=arena, cached=part)
    for _ in range(2):
        for name, view in views.items():
            target = torch.zeros_like(view)
            flat = target.reshape(-1).view(torch.uint8), view.reshape(-1).view(torch.uint8)
            supply.bring(Load([flat]), ())()
            assert torch.equal(target, saved[name])  # a look at the view would map its pages, and keep them
    supply.close()
    fraction = resident_fraction(path)
    assert fraction is not None
    assert fraction < 0.5
