"""The order between the streams, with streams that write down what they are asked."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from flux_speedup.weights.errors import TransferError
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.files.span import find
from flux_speedup.weights.residency.signature import Signature
from flux_speedup.weights.transfer import lane
from flux_speedup.weights.transfer.item import Item
from flux_speedup.weights.transfer.lane import PlainLane, StreamLane, lane_for
from flux_speedup.weights.transfer.staging import Arena
from flux_speedup.weights.transfer.transfer import transfer
from tests.unit.weights.weight_files import CARD, file_opener, random_tensor, raw_bytes, write_weights


class Log(list[str]):
    """What happened, in order, and on which stream each thread is."""

    def __init__(self) -> None:
        super().__init__()
        self.here = threading.local()

    def stream(self) -> str:
        return getattr(self.here, "stream", "current")


class FakeStream:
    def __init__(self, log: Log, name: str) -> None:
        self.log, self.name = log, name

    def wait_stream(self, other: FakeStream) -> None:
        self.log.append(f"{self.name} waits for {other.name}")

    def wait_event(self, event: FakeEvent) -> None:
        self.log.append(f"{self.name} waits for event")

    def synchronize(self) -> None:
        self.log.append(f"host waits for {self.name}")


class FakeEvent:
    def __init__(self, log: Log) -> None:
        self.log = log

    def record(self, stream: FakeStream) -> None:
        self.log.append(f"event on {stream.name}")

    def query(self) -> bool:
        return False

    def synchronize(self) -> None:
        self.log.append("host waits for event")


class FakeModule:
    """Stands for torch.cuda."""

    def __init__(self) -> None:
        self.log = Log()
        self._names = iter(["copies", "behind", "copies beside", "behind beside"])
        self._current = FakeStream(self.log, "current")

    def Stream(self, device: torch.device) -> FakeStream:
        return FakeStream(self.log, next(self._names))

    def Event(self, **_: Any) -> FakeEvent:
        return FakeEvent(self.log)

    def current_stream(self, device: torch.device) -> FakeStream:
        return self._current

    @contextlib.contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        before = self.log.stream()
        self.log.here.stream = stream.name
        try:
            yield
        finally:
            self.log.here.stream = before


class WatchedLane(StreamLane):
    """Writes down allocations and copies too, and fails at copy number `fail_at`."""

    pinned = False

    def __init__(self, module: FakeModule, *, fail_at: int = -1) -> None:
        super().__init__(CARD, module=module)
        self.log = module.log
        self.fail_at = fail_at

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        self.log.append(f"allocate on {self.log.stream()}")
        return super().empty(shape, dtype)

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        self.log.append(f"copy on {self.log.stream()}")
        if sum(line.startswith("copy") for line in self.log) == self.fail_at:
            raise RuntimeError("the device is gone")
        super().copy(target, source)


def run(folder: Path, lane: WatchedLane) -> list[torch.Tensor]:
    registry = Registry()
    tensors = {f"t{n}": random_tensor((700,), torch.uint8, n) for n in range(4)}
    views = registry.open(write_weights(folder / "a.safetensors", tensors)).views()
    items = []
    for view in views.values():
        span = find(view, registry)
        assert span is not None
        items.append(Item(span, torch.uint8, (700,)))
    signature = Signature([item.bytes for item in items], CARD)

    def arrived(number: int, tensor: torch.Tensor) -> None:
        lane.log.append(f"digest on {lane.log.stream()}")
        signature.add(number, tensor)

    arena = Arena(limit=1 << 10, chunk=256)
    new = transfer(items, lane, arena, threads=2, opener=file_opener(registry), arrived=arrived)
    for tensor, view in zip(new, views.values(), strict=True):
        assert raw_bytes(tensor) == raw_bytes(view)
    return new


def test_the_order_between_the_streams(tmp_path: Path) -> None:
    module = FakeModule()
    run(tmp_path, WatchedLane(module))
    log = list(module.log)
    copies = [n for n, line in enumerate(log) if line == "copy on copies"]
    allocations = [n for n, line in enumerate(log) if line == "allocate on current"]
    assert copies
    assert not [line for line in log if line.startswith(("copy", "allocate")) and "behind" in line]
    assert "copy on current" not in log
    # Everything is allocated on the caller's stream; copies start once the copy stream waited for that one.
    assert max(allocations) < log.index("copies waits for current") < min(copies)
    # A slot is filled again only after its event: there are four slots, and none is ever found done.
    assert log.count("host waits for event") >= log.count("event on copies") - 4 > 0
    # The digest comes behind the copies, beside those that follow.
    assert log.count("digest on behind") == 4
    assert log.index("behind waits for copies") < log.index("digest on behind")
    # The caller's stream waits for both before anybody uses the tensors, and not while the copies are under way:
    # it may compute something else then.
    assert log[-3:] == ["host waits for copies", "current waits for copies", "current waits for behind"]


def test_what_waits_for_a_point_does_not_wait_for_later_copies() -> None:
    lane = WatchedLane(FakeModule())
    point = lane.fence(None)
    with lane.behind(point):
        assert lane.log == ["event on copies", "behind waits for event"]
        assert lane.log.stream() == "behind"


def test_after_an_error_the_host_waits_for_the_streams_before_buffers_go(tmp_path: Path) -> None:
    module = FakeModule()
    with pytest.raises(TransferError, match="the device is gone"):
        run(tmp_path, WatchedLane(module, fail_at=5))
    assert module.log[-2:] == ["host waits for copies", "host waits for behind"]


def test_lanes_by_kind_of_device() -> None:
    assert isinstance(lane_for(CARD), PlainLane)
    assert not lane_for(torch.device("cpu")).pinned
    assert StreamLane.pinned


def test_a_lane_beside_has_streams_of_its_own_and_the_same_caller() -> None:
    module = FakeModule()
    lane = StreamLane(CARD, module=module)
    for each, name in ((lane, "copies"), (lane.beside(), "copies beside"), (lane.beside(), "copies beside")):
        with each.copying():
            assert module.log.stream() == name
        with each.calling():
            assert module.log.stream() == "current"


@pytest.mark.parametrize("old", [False, True])
def test_many_copies_at_once_are_the_same_copies(monkeypatch: pytest.MonkeyPatch, old: bool) -> None:
    if old:
        monkeypatch.setattr(lane, "_COPY_MANY", None)  # before PyTorch 2.1
    sources = [random_tensor((size,), torch.uint8, size) for size in (1, 700, 64)]
    targets = [torch.zeros_like(each) for each in sources]
    StreamLane(CARD, module=FakeModule()).copy_all(targets, sources)
    assert list(map(raw_bytes, targets)) == list(map(raw_bytes, sources))
