"""Measuring: what is read, what is refused, how it ends, and what stays of it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flux_speedup.measuring import measured as kept
from flux_speedup.measuring import moving, reading
from flux_speedup.measuring.measured import CannotMeasure, Measured, Place
from flux_speedup.measuring.measurement import Measurement
from flux_speedup.measuring.steps import steps
from flux_speedup.stats.machine import Machine
from tests.waiting import PATIENCE_S

CHUNK = reading.CHUNK
KNOWN = Machine(5.0, "card")


def nothing(share: float) -> None:
    assert share >= 0


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(os.urandom(1 << 16) * ((3 * CHUNK >> 16) + 5))
    return path


def test_the_page_cache_is_read_and_the_shares_go_up(weights: Path) -> None:
    shares: list[float] = []
    rate = reading.warm(weights, shares.append)
    assert rate is not None
    assert rate > 0
    assert shares == sorted(shares)
    assert shares[-1] >= 1


def test_no_more_is_read_than_the_limit(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = reading._read

    def counted(descriptor: int, buffer: Any, offset: int) -> int:
        read.append(offset)
        return original(descriptor, buffer, offset)

    monkeypatch.setattr(reading, "_read", counted)
    reading.warm(weights, nothing, limit=CHUNK + 1)
    assert read == [0, 0]


def test_the_disk_is_read_past_the_page_cache_or_not_at_all(weights: Path) -> None:
    rate = reading.cold(weights, nothing)
    assert rate is None or rate > 0
    memory = Path("/dev/shm")  # a file system that is all page cache
    if memory.is_dir() and os.access(memory, os.W_OK):
        there = memory / f"flux-speedup-test-{os.getpid()}"
        try:
            there.write_bytes(bytes(2 * CHUNK))
            found = reading.cold(there, nothing)
        finally:
            there.unlink(missing_ok=True)
        assert found is None or found > 0


def test_a_file_that_is_too_small_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "small"
    path.write_bytes(b"x" * 100)
    assert reading.warm(path, nothing) is None
    assert reading.cold(path, nothing) is None


class NoSynchronising:
    """torch on a CPU, as the code for a GPU uses it."""

    class cuda:
        @staticmethod
        def synchronize(device: object) -> None:
            assert device == "cpu"

        @staticmethod
        def is_available() -> bool:
            return False

    def __getattr__(self, name: str) -> Any:
        if name == "empty":
            return lambda size, dtype, **_: torch.empty(size, dtype=dtype)
        return getattr(torch, name)


class Tensors:
    """A safetensors file as `safe_open` shows it."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self.sizes = sizes
        self.asked: list[str] = []

    def keys(self) -> list[str]:
        return list(self.sizes)

    def get_tensor(self, name: str) -> torch.Tensor:
        self.asked.append(name)
        return torch.zeros(self.sizes[name], dtype=torch.bfloat16)

    @contextlib.contextmanager
    def opened(self, path: Path) -> Iterator[Tensors]:
        yield self


def test_the_bus_and_the_own_way_of_the_webui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "PINNED", 1 << 20)
    assert moving.bus(NoSynchronising(), "cpu", nothing) > 0
    big = moving.WORTH // 2
    file = Tensors({"small": 10, "one": big, "two": big, "three": big})
    shares: list[float] = []
    there, back = moving.host_moves(
        NoSynchronising(), "cpu", tmp_path, file.opened, shares.append, limit=2 * moving.WORTH
    )
    assert shares == [0.25, 0.5, 0.75, 1.0]
    assert there is not None
    assert back is not None
    assert min(there, back) > 0
    assert file.asked[-2:] == ["one", "two"]
    none = Tensors({"small": 10})
    assert moving.host_moves(NoSynchronising(), "cpu", tmp_path, none.opened, nothing) == (None, None)


def test_without_a_gpu_the_disk_and_the_page_cache_are_measured(weights: Path) -> None:
    file = Tensors({})
    for device in (None, torch.device("cpu")):
        names = [name for name, _ in steps(weights, torch, device, file.opened)]
        assert names == ["reading from the disk", "reading from the page cache"]
    cuda = torch.device("cuda", 0)
    assert len(steps(weights, torch, cuda, file.opened)) == 4
    assert len(steps(weights.with_suffix(".gguf"), torch, cuda, file.opened)) == 3


# Its life.


def measured(tmp_path: Path, weights: Path | None, busy: list[bool]) -> Measured:
    folder = tmp_path / "cache"
    return Measured(
        Place(
            lambda: folder / "machine.json", lambda: weights, lambda: None, lambda: "card", lambda: busy[-1]
        )
    )


def test_what_was_measured_is_there_and_in_the_next_process(tmp_path: Path, weights: Path) -> None:
    one = measured(tmp_path, weights, [False])
    assert one.machine() is None
    assert one.measure().state == "running"
    assert one.wait(PATIENCE_S)
    assert (one.measuring().state, one.measuring().share) == ("done", 1.0)
    found = one.machine()
    assert found is not None
    assert found.page_cache is not None
    assert (found.device, found.bus, found.host_load) == ("card", None, None)
    assert measured(tmp_path, weights, [False]).machine() == found
    assert [each.name for each in (tmp_path / "cache").iterdir()] == ["machine.json"]


def test_another_card_counts_as_not_measured(tmp_path: Path, weights: Path) -> None:
    kept.save(tmp_path / "cache" / "machine.json", Machine(5.0, "another card", disk=1.0))
    assert measured(tmp_path, weights, [False]).machine() is None


def test_it_is_refused_while_an_image_is_made_and_without_a_file(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(CannotMeasure, match="an image is being made"):
        measured(tmp_path, weights, [True]).measure()
    for missing in (None, tmp_path / "gone"):
        with pytest.raises(CannotMeasure, match="no checkpoint is selected"):
            measured(tmp_path, missing, [False]).measure()


def test_an_image_that_is_asked_for_ends_it(tmp_path: Path, weights: Path) -> None:
    busy = [False]

    def wait_for_a_request(known: Machine, check: Any) -> Machine:
        check(0.5)
        busy.append(True)
        check(0.6)
        raise AssertionError("it went on")

    made = Measurement(lambda _: pytest.fail("it ended well"), lambda: busy[-1])
    made.begin(KNOWN, [("one", wait_for_a_request)])
    assert made.wait(PATIENCE_S)
    assert (made.now().state, made.now().why) == ("cancelled", "an image was asked for")
    assert made.now().share == 0.5


def test_it_can_be_cancelled_and_begun_again_and_there_is_one_at_a_time() -> None:
    going, ended = threading.Event(), []

    def slow(known: Machine, check: Any) -> Machine:
        going.set()
        while True:
            check(0.25)
            time.sleep(0.001)

    def quick(known: Machine, check: Any) -> Machine:
        check(1.0)
        return replace(known, disk=2.0)

    made = Measurement(ended.append, lambda: False)
    assert made.cancel("nothing runs").state == "idle"
    made.begin(KNOWN, [("slow", slow)])
    assert going.wait(PATIENCE_S)
    assert made.begin(KNOWN, [("quick", quick)]).doing == "slow"
    made.cancel("cancelled")
    assert made.wait(PATIENCE_S)
    assert (made.now().state, made.now().why, ended) == ("cancelled", "cancelled", [])
    made.begin(KNOWN, [("quick", quick), ("again", quick)])
    assert made.wait(PATIENCE_S)
    assert made.now().state == "done"
    assert ended == [replace(KNOWN, disk=2.0)]


def test_what_fails_says_why() -> None:
    def fail(known: Machine, check: Any) -> Machine:
        raise RuntimeError("out of memory")

    made = Measurement(lambda _: None, lambda: False)
    made.begin(KNOWN, [("one", fail)])
    assert made.wait(PATIENCE_S)
    assert (made.now().state, made.now().why) == ("failed", "one: RuntimeError: out of memory")


def test_one_step_that_fails_leaves_the_others() -> None:
    def fail(known: Machine, check: Any) -> Machine:
        raise RuntimeError("out of memory")

    def disk(known: Machine, check: Any) -> Machine:
        return replace(known, disk=2.0)

    ended: list[Machine] = []
    made = Measurement(ended.append, lambda: False)
    made.begin(KNOWN, [("copying", fail), ("reading", disk)])
    assert made.wait(PATIENCE_S)
    assert (made.now().state, made.now().why) == ("done", "copying: RuntimeError: out of memory")
    assert ended == [replace(KNOWN, disk=2.0)]


@pytest.mark.parametrize(
    "written",
    ["", "[]", "{}", '{"at": "x"}', '{"at": NaN}', '{"at": -1}', "[" * 99_999, '{"at": true}', "x" * 70_000],
)
def test_a_file_of_somebody_else_is_no_measurement(tmp_path: Path, written: str) -> None:
    path = tmp_path / "machine.json"
    assert kept.load(path) is None
    path.write_text(written)
    assert kept.load(path) is None


def test_rates_that_are_none_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    path.write_text('{"at": 5, "device": "card", "disk": "fast", "bus": 25, "page_cache": -1, "new": 3}')
    assert kept.load(path) == Machine(5.0, "card", bus=25.0)
