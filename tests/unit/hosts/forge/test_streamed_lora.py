"""A LoRA that is merged whenever a weight arrives is on the device from its first use on."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import torch

from flux_speedup.hosts.forge import lora
from flux_speedup.hosts.forge.streamed_lora import MERGING, StreamedLoras, at_hand

COMPUTING = 5 << 20


class HostsOwn:
    """Stands for the module of the host that merges: notes which objects it is given."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def merge_lora_to_weight(
        self, patches: Any, weight: torch.Tensor, key: str, computation_dtype: torch.dtype
    ) -> torch.Tensor:
        self.seen.append(patches)
        assert computation_dtype == torch.float32
        return weight + sum(strength * value[1][0] for strength, value, *_ in patches)


@pytest.mark.parametrize(("size", "moved"), [(30, True), (3, False)])
def test_what_is_merged_is_moved_once_unless_it_is_large(
    monkeypatch: pytest.MonkeyPatch, size: int, moved: bool
) -> None:
    host = HostsOwn()
    monkeypatch.setattr(lora, "_host_lora", lambda: host)
    up = torch.ones(1)
    patches = {
        ("one", 1.0, 1.0, False): {"layer.weight": [[0.5, ("lora", (up, None, 2.0)), 1.0, None, None]]}
    }
    online = {("two", 1.0, 1.0, True): {"layer.weight": [[9.0, ("lora", (up,)), 1.0, None, None]]}}
    merges_of = lora.merges_of({**patches, **online})
    merges = at_hand(merges_of)
    assert list(merges) == ["layer.weight"]
    for _ in range(3):
        assert torch.equal(merges["layer.weight"](torch.zeros(size)), torch.full((size,), 0.5))
    own = merges_of["layer.weight"].patches
    assert all(one is host.seen[0] for one in host.seen)
    assert (host.seen[0] is not own) is moved
    assert host.seen[0] == own
    assert up.tolist() == [1.0]


@pytest.mark.parametrize(
    ("free", "cached", "streaming", "asked"),
    [
        (MERGING // 4, 0, 0, ["emptied", MERGING * 3 // 4]),
        (MERGING, 0, 0, []),
        (MERGING, 1, 0, ["emptied"]),
        (MERGING, 0, 1, [COMPUTING]),  # what streams is merged at every step, beside computing
        (MERGING + COMPUTING, 0, 1, []),
    ],
)
def test_units_give_way_before_loras_are_merged_where_there_is_no_room_for_that(
    monkeypatch: pytest.MonkeyPatch, free: int, cached: int, streaming: int, asked: list[int | str]
) -> None:
    model, split = torch.nn.Linear(2, 2), Split()
    manager = types.SimpleNamespace(
        get_free_memory=lambda device, torch_free_too: (free, cached),
        soft_empty_cache=lambda: split.told.append("emptied"),
    )
    monkeypatch.setitem(sys.modules, "backend.memory_management", manager)
    split.streaming = streaming
    streamed: Any = types.SimpleNamespace(split=split, device=torch.device("cpu"), give_way=split.give_way)
    loader = types.SimpleNamespace(model=model, backup={}, online_backup=[], loaded_hash=str([]))
    patches = {("one", 1.0, 1.0, False): {"weight": [[0.5, ("lora", (torch.ones(1),)), 1.0, None, None]]}}
    refresh = StreamedLoras(lambda _: streamed, lambda _: None, lambda: COMPUTING).wrap_refresh(
        lambda *_: split.told.append("merged"), lambda size: 0
    )
    refresh(loader, {})
    assert split.told == ["none", "merged"]
    split.told.clear()
    refresh(loader, patches)
    assert split.told == [*asked, "weight", "merged"]


@pytest.mark.parametrize(
    ("fails", "gives", "told"),
    [
        (2, 7, ["merge", MERGING, "merge", 2 * MERGING, "merge"]),
        (1, 0, ["merge", MERGING, "by the host"]),
        (
            9,
            7,
            [
                "merge",
                MERGING,
                "merge",
                2 * MERGING,
                "merge",
                4 * MERGING,
                "merge",
                8 * MERGING,
                "by the host",
            ],
        ),
    ],
)
def test_weights_give_way_to_merging_that_runs_out_of_memory_and_the_host_merges_at_last(
    monkeypatch: pytest.MonkeyPatch, fails: int, gives: int, told: list[Any]
) -> None:
    manager = types.SimpleNamespace(soft_empty_cache=lambda: None)
    monkeypatch.setitem(sys.modules, "backend.memory_management", manager)
    seen: list[Any] = []
    loader = types.SimpleNamespace(
        model=torch.nn.Linear(2, 2), backup={}, online_backup=[], loaded_hash=str([])
    )

    def merge(*_: Any) -> None:
        raises = lora.is_to_raise()
        seen.append("merge" if raises else "by the host")
        if raises and seen.count("merge") <= fails:
            raise lora.NoRoom("full")

    def make_room(size: int) -> int:
        seen.append(size)
        return gives

    StreamedLoras(lambda _: None, lambda _: None, lambda: COMPUTING).wrap_refresh(merge, make_room)(
        loader, {}
    )
    assert seen == told
    assert not lora.is_to_raise()


class Split:
    """Stands for a split model: notes what it is asked for, in order."""

    streamed_names: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.streaming = 0

    def give_way(self, size: int) -> int:
        self.told.append(size)
        return size

    def set_merges(self, merges: Any) -> None:
        self.told.append(", ".join(merges) or "none")
