"""Transfers bring exactly the right bytes, whatever the sizes, and on any failure nothing at all."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_speedup import shortage
from flux_speedup.weights.errors import ReadError, TransferError
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.files.span import find
from flux_speedup.weights.transfer.item import Item
from flux_speedup.weights.transfer.lane import Fence, lane_for
from flux_speedup.weights.transfer.reader import Source
from flux_speedup.weights.transfer.staging import Arena
from flux_speedup.weights.transfer.transfer import Underway, default_threads, transfer
from tests.unit.weights.weight_files import (
    CARD,
    DTYPES,
    CountingLane,
    file_opener,
    random_tensor,
    raw_bytes,
    write_weights,
)
from tests.waiting import PATIENCE_S


def items_of(registry: Registry, views: dict[str, torch.Tensor]) -> list[Item]:
    items = []
    for view in views.values():
        span = find(view, registry)
        items.append(Item(span if span is not None else view, view.dtype, tuple(view.shape)))
    return items


class Hesitant:
    """A source that gives its bytes in drips."""

    def __init__(self, source: Source, most: int) -> None:
        self._source, self._most, self.path = source, most, source.path

    def read_into(self, offset: int, target: memoryview) -> None:
        for start in range(0, len(target), self._most):
            self._source.read_into(offset + start, target[start : start + self._most])

    def check(self) -> None:
        self._source.check()

    def close(self) -> None:
        self._source.close()


@settings(deadline=None, max_examples=50)
@given(
    specs=st.lists(
        st.tuples(
            st.lists(st.integers(0, 40), max_size=3).map(tuple), st.sampled_from(list(DTYPES.values()))
        ),
        max_size=12,
    ),
    chunk=st.sampled_from([64, 100, 256, 1000, 64 << 10]),
    slots=st.integers(1, 9),
    threads=st.integers(1, 6),
    most=st.integers(50, 5000),
    order=st.randoms(use_true_random=False),
)
def test_every_byte_arrives(
    tmp_path_factory: pytest.TempPathFactory,
    specs: Any,
    chunk: int,
    slots: int,
    threads: int,
    most: int,
    order: Any,
) -> None:
    tensors = {f"t{n}": random_tensor(shape, dtype, n) for n, (shape, dtype) in enumerate(specs)}
    path = write_weights(tmp_path_factory.mktemp("t") / "a.safetensors", tensors)
    registry = Registry()
    views = registry.open(path).views()
    names = list(views)
    order.shuffle(names)
    items = items_of(registry, {name: views[name] for name in names})
    opener = file_opener(registry, lambda source: Hesitant(source, most))
    new = transfer(
        items, lane_for(CARD), Arena(limit=chunk * slots, chunk=chunk), threads=threads, opener=opener
    )
    assert len(new) == len(names)
    for name, tensor in zip(names, new, strict=True):
        assert (tensor.dtype, tensor.shape) == (tensors[name].dtype, tensors[name].shape)
        assert raw_bytes(tensor) == raw_bytes(tensors[name])
        assert find(tensor, registry) is None


def test_ram_tensors_go_through_staging_or_straight_with_their_strides(tmp_path: Path) -> None:
    whole = random_tensor((300, 50), torch.float32)
    last = random_tensor((2, 3, 4, 5), torch.float32).to(memory_format=torch.channels_last)
    items = [
        Item(whole, torch.float32, (300, 50)),
        Item(last, torch.float32, (2, 3, 4, 5)),
        Item(whole[:, 3], torch.float32, (300,)),
        Item(torch.tensor(3), torch.int64, ()),
    ]
    new = transfer(items, lane_for(CARD), Arena(limit=4096, chunk=1024), threads=2)
    assert [raw_bytes(tensor) for tensor in new] == [raw_bytes(item.origin) for item in items]  # type: ignore[arg-type]
    assert new[1].is_contiguous(memory_format=torch.channels_last)


class Slots(CountingLane):
    """Counts the slots that were copied from."""

    used = 0

    def fence(self, again: Fence | None) -> Fence | None:
        self.used += 1
        return None


def test_small_ones_in_ram_share_a_slot_and_nobody_waits_for_each() -> None:
    lane = Slots()
    small = [random_tensor((1 + n % 7, 3), torch.bfloat16, n) for n in range(50)]
    items = [Item(tensor, tensor.dtype, tuple(tensor.shape)) for tensor in small]
    new = transfer(items, lane, Arena(limit=64 << 10, chunk=16 << 10), threads=2)
    assert [raw_bytes(tensor) for tensor in new] == [raw_bytes(tensor) for tensor in small]
    assert (lane.copies, lane.used) == (50, 1)


def test_results_are_ordinary_tensors_under_inference_mode(tmp_path: Path) -> None:
    with torch.inference_mode():
        (new,) = transfer(
            [Item(torch.ones(4), torch.float32, (4,))], lane_for(CARD), Arena(limit=64, chunk=64)
        )
    assert not new.is_inference()


def test_nothing_to_do() -> None:
    assert transfer([], lane_for(CARD), Arena(limit=64, chunk=64)) == []


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (5, 5), (64, 12)])
def test_threads_are_the_cores_that_may_be_used_up_to_twelve(
    cores: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flux_speedup.weights.transfer.transfer.cores", lambda: cores)
    assert default_threads() == threads


def test_a_kind_of_device_without_a_lane_is_refused() -> None:
    with pytest.raises(TransferError, match="no way to stream to a meta device"):
        lane_for(torch.device("meta"))


class Broken(Hesitant):
    """Fails at the n-th read, or when the file is checked at the end."""

    def __init__(
        self, source: Source, *, at: int = -1, error: Exception | None = None, late: bool = False
    ) -> None:
        super().__init__(source, 1 << 20)
        self._at, self._late, self._reads, self._lock = at, late, 0, threading.Lock()
        self._error = error or ReadError(source.path, "reading failed (Input/output error)", offset=128)
        self.closed = False

    def read_into(self, offset: int, target: memoryview) -> None:
        with self._lock:
            self._reads += 1
            now = self._reads - 1 == self._at
        if now:
            raise self._error
        super().read_into(offset, target)

    def check(self) -> None:
        if self._late:
            raise ReadError(self.path, "the file was changed or replaced since it was opened")
        super().check()

    def close(self) -> None:
        self.closed = True
        super().close()


FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "first read": ({"at": 0}, {}, "Input/output"),
    "read in the middle": ({"at": 5}, {}, "Input/output"),
    "os error": ({"at": 3, "error": OSError(116, "Stale file handle")}, {}, "Stale"),
    "file changed meanwhile": ({"late": True}, {}, "changed or replaced"),
    "first allocation": ({}, {"fail_empty_at": 0}, "no room"),
    "allocation in the middle": ({}, {"fail_empty_at": 6}, "no room"),
    "first copy": ({}, {"fail_copy_at": 0}, "the device is gone"),
    "copy in the middle": ({}, {"fail_copy_at": 7}, "the device is gone"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_leaves_nothing_behind_and_the_next_transfer_works(tmp_path: Path, fault: str) -> None:
    of_source, of_lane, reason = FAULTS[fault]
    tensors = {f"t{n}": random_tensor((40, 10), torch.float32, n) for n in range(10)}
    registry = Registry()
    path = write_weights(tmp_path / "a.safetensors", tensors)
    views = registry.open(path).views()
    arena = Arena(limit=8 << 10, chunk=1 << 10)
    lane = CountingLane(**of_lane)
    sources: list[Broken] = []

    def breaking(source: Source) -> Source:
        sources.append(Broken(source, **of_source))
        return sources[-1]

    with pytest.raises(TransferError, match=reason) as caught:
        transfer(items_of(registry, views), lane, arena, threads=3, opener=file_opener(registry, breaking))
    assert shortage.of_card(caught.value) == ("allocation" in fault)
    if of_source and fault != "os error":
        assert caught.value.path == path
    assert "as they were before" in str(caught.value)
    assert lane.aborted == 1
    assert [source.closed for source in sources] == [True]
    assert not [t for t in threading.enumerate() if t.name.startswith("flux-speedup-reader")]
    buffers = [weakref.ref(tensor) for tensor in lane.made]
    lane.made.clear()
    gc.collect()
    assert [buffer() for buffer in buffers] == [None] * len(buffers)  # while the error is still held
    new = transfer(items_of(registry, views), CountingLane(), arena, threads=3, opener=file_opener(registry))
    assert [raw_bytes(tensor) for tensor in new] == [raw_bytes(view) for view in views.values()]


def test_copies_have_stopped_before_buffers_are_let_go(tmp_path: Path) -> None:
    """A copy that is under way when another thread fails ends before `abort` is asked."""
    tensors = {f"t{n}": random_tensor((64,), torch.uint8, n) for n in range(8)}
    registry = Registry()
    views = registry.open(write_weights(tmp_path / "a.safetensors", tensors)).views()
    inside, failed = threading.Event(), threading.Event()
    events: list[str] = []

    class Slow(CountingLane):
        def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
            inside.set()
            assert failed.wait(PATIENCE_S)
            super().copy(target, source)
            events.append("copied")

        def abort(self) -> None:
            events.append("abort")

    class FailsOnceACopyRuns(Hesitant):
        def read_into(self, offset: int, target: memoryview) -> None:
            if offset > 600 and inside.wait(PATIENCE_S):
                failed.set()
                raise ReadError(self.path, "gone", offset=offset)
            super().read_into(offset, target)

    opener = file_opener(registry, lambda source: FailsOnceACopyRuns(source, 1 << 20))
    with pytest.raises(TransferError, match="gone"):
        transfer(items_of(registry, views), Slow(), Arena(limit=256, chunk=64), threads=4, opener=opener)
    assert events[-1] == "abort"
    assert "copied" in events


def _all_at_once(begin: Any) -> None:
    begin(transfer)


def _asked_for(begin: Any) -> None:
    begin(Underway).result()


def _not_wanted(begin: Any) -> None:
    begin(Underway).stop()


@pytest.mark.parametrize("way", [_all_at_once, _asked_for, _not_wanted])
def test_what_those_have_who_called_it_goes_with_them_after_a_fault(
    tmp_path: Path, way: Callable[[Any], None]
) -> None:
    registry = Registry()
    views = registry.open(write_weights(tmp_path / "a", {"t": random_tensor((400,), torch.uint8)})).views()
    opener = file_opener(registry, lambda source: Broken(source, at=2))
    arena = Arena(limit=1 << 10, chunk=64)
    held: list[weakref.ref[Any]] = []

    def begin(how: Any) -> Any:
        lane = CountingLane()
        held.append(weakref.ref(lane))
        return how(items_of(registry, views), lane, arena, threads=2, opener=opener)

    def host() -> None:
        weights = torch.ones(3)  # as a load that goes on without what did not come ahead of it
        held.append(weakref.ref(weights))
        with contextlib.suppress(TransferError):
            way(begin)

    gc.disable()
    try:
        host()
        assert [each() for each in held] == [None, None]
    finally:
        gc.enable()
