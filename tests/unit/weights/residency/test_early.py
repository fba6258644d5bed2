"""What is on its way before its load: found there by the load, or gone without a trace; never a wrong byte."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from flux_speedup import shortage
from flux_speedup.weights.errors import TransferError
from flux_speedup.weights.residency.early import Early, in_turn
from flux_speedup.weights.residency.placement import Placement
from flux_speedup.weights.transfer.lane import PlainLane
from flux_speedup.weights.transfer.reader import Source
from tests.second_device import full, used
from tests.second_device.marks import needs_card
from tests.unit.weights.residency.test_residency import CARD, Case
from tests.unit.weights.weight_files import CountingLane, file_opener, write_weights
from tests.waiting import PATIENCE_S

pytestmark = needs_card


class Held:
    """A source that gives nothing until it is told to."""

    def __init__(self, source: Source, go: threading.Event) -> None:
        self._source, self._go, self.path = source, go, source.path
        self.check, self.close = source.check, source.close

    def read_into(self, offset: int, target: memoryview) -> None:
        assert self._go.wait(PATIENCE_S)
        self._source.read_into(offset, target)


def begun(folder: Path, lane: CountingLane | None = None) -> tuple[Case, threading.Event, int]:
    """A case whose files are on their way, the event that lets them arrive, and bytes used before."""
    go = threading.Event()
    case = Case(folder, **({"lane": lane} if lane else {}))
    case = Case(
        folder, opener=file_opener(case.registry, lambda s: Held(s, go)), **({"lane": lane} if lane else {})
    )
    before = used()
    assert case.residency.early(CARD).begin() == sum(tensor.nbytes for tensor in case.tensors.values())
    assert used() > before
    case.at_home()
    case.expect()
    return case, go, before


def test_a_load_takes_over_what_came(tmp_path: Path) -> None:
    lane = CountingLane()
    case, go, before = begun(tmp_path, lane)
    made = len(lane.made)
    go.set()
    report = case.residency.load(CARD)
    case.expect()
    assert report.bytes == sum(t.nbytes for t in (*case.parameters.values(), case.module.positions))
    assert len(lane.made) == made + 2  # only what is in RAM came now
    del lane.made[:]
    with full():
        assert case.residency.unload().copied_back == ()
    case.expect()
    case.at_home()
    assert used() == before


def test_a_write_on_the_device_is_saved_wherever_the_weight_came_from(tmp_path: Path) -> None:
    case, go, _ = begun(tmp_path)
    go.set()
    case.residency.load(CARD)
    with torch.no_grad():
        case.parameters["b"][7, 3] = 2.0
        case.parameters["ram"][1, 1] = 3.0
    written = {name: case.parameters[name].detach().cpu().clone() for name in ("b", "ram")}
    assert set(case.residency.unload().copied_back) == {"b", "ram"}
    case.expect(**written)


def _early(case: Case) -> Early:
    early = case.residency._landing._early
    assert early is not None
    return early


def _stop(case: Case, go: threading.Event) -> None:
    threading.Timer(0.05, go.set).start()
    _early(case).stop()


def _unload(case: Case, go: threading.Event) -> None:
    go.set()
    case.residency.unload()


def _begin_again_and_stop(case: Case, go: threading.Event) -> None:
    go.set()
    early = case.residency.early(CARD)
    early.begin()
    early.stop()


def _stop_before_it_is_begun(case: Case, go: threading.Event) -> None:
    go.set()
    early = case.residency.early(CARD)
    early.stop()
    assert early.begin() == 0


def _load_elsewhere(case: Case, go: threading.Event) -> None:
    go.set()
    case.residency.load(torch.device("hpu", 1), names=["ram"])
    case.residency.unload()


@pytest.mark.parametrize(
    "end", [_stop, _unload, _begin_again_and_stop, _stop_before_it_is_begun, _load_elsewhere]
)
def test_what_nobody_asks_for_goes(tmp_path: Path, end: Callable[[Case, threading.Event], None]) -> None:
    case, go, before = begun(tmp_path)
    end(case, go)
    assert used() == before
    case.at_home()
    case.residency.load(CARD)
    case.expect()


@pytest.mark.parametrize("fault", ["read", "copy", "changed in place"])
def test_a_fault_on_the_way_leaves_the_load_to_itself(tmp_path: Path, fault: str) -> None:
    state = {"broken": True}
    lane = CountingLane(fail_copy_at=1) if fault == "copy" else None

    class Faulty(Held):
        def read_into(self, offset: int, target: memoryview) -> None:
            super().read_into(offset, target)
            if state["broken"] and fault == "read":
                raise OSError(5, "Input/output error")

    go = threading.Event()
    first = Case(tmp_path)
    opener = file_opener(first.registry, lambda source: Faulty(source, go))
    case = Case(tmp_path, opener=opener, **({"lane": lane} if lane else {}))
    before = used()
    case.residency.early(CARD).begin()
    if fault == "changed in place":
        stat = case.path.stat()
        os.utime(case.path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    go.set()
    _early(case).complete()
    state["broken"] = False
    if fault == "changed in place":
        with pytest.raises(TransferError):
            case.residency.load(CARD)
        assert used() == before
        case.at_home()
        return
    case.residency.load(CARD)
    case.expect()
    if lane is not None:  # it must not be what keeps memory
        del lane.made[:]
        lane._error.__traceback__ = None
    case.residency.unload()
    assert used() == before


@pytest.mark.parametrize("room", [0, 100])
def test_without_room_nothing_is_begun(tmp_path: Path, room: int) -> None:
    case = Case(tmp_path)
    before = used()
    with full(room), pytest.raises(TransferError) as error:
        case.residency.early(CARD).begin()
    assert shortage.of_card(error.value)
    error.value.__traceback__ = None
    assert used() == before
    case.at_home()


def test_what_was_written_or_replaced_meanwhile_is_not_taken_from_the_way(tmp_path: Path) -> None:
    case, go, before = begun(tmp_path)
    with torch.no_grad():
        case.parameters["a"][3, 3] = 42.0
    written = case.parameters["a"].detach().clone()
    other: Any = torch.nn.Parameter(torch.ones(33, 40, dtype=torch.float16), requires_grad=False)
    case.module.b = other
    go.set()
    case.residency.load(CARD)
    assert torch.equal(case.module.a.detach().cpu(), written)
    assert torch.equal(other.detach().cpu(), torch.ones(33, 40, dtype=torch.float16))
    case.residency.unload()
    assert used() == before


def test_others_are_checked_while_something_is_on_its_way(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Case(tmp_path / "other")
    other.residency.load(CARD)
    case, go, _ = begun(tmp_path)
    assert other.residency.unload().copied_back == ()
    go.set()
    case.residency.load(CARD)
    assert case.residency.unload().copied_back == ()


@pytest.mark.parametrize("at", range(9))
@pytest.mark.parametrize("what", ["copy", "allocation"])
def test_wherever_it_fails_a_load_afterwards_brings_every_byte(tmp_path: Path, what: str, at: int) -> None:
    lane = CountingLane(**{"fail_copy_at" if what == "copy" else "fail_empty_at": at})
    case = Case(tmp_path, lane=lane)
    before = used()
    for _ in range(3):  # the place where it fails is passed once
        try:
            case.residency.early(CARD).begin()
            case.residency.load(CARD)
        except TransferError as error:
            error.__traceback__ = None
            if case.residency._landing._early is not None:
                _early(case).stop()
            case.at_home()
        case.expect()
        lane._fail_empty_at = -1
    case.residency.load(CARD)
    case.expect()
    assert case.residency.unload().copied_back == ()
    lane.made.clear()
    lane._error.__traceback__ = None
    assert used() == before


@pytest.mark.parametrize("name", ["a", "z"])
def test_where_a_load_cannot_begin_what_was_on_its_way_goes_too(tmp_path: Path, name: str) -> None:
    case, before = Case(tmp_path, available=lambda: 0), used()
    assert case.residency.early(CARD).begin()
    path = write_weights(tmp_path / "lost.safetensors", {"t": torch.ones(300)})
    weight = torch.nn.Parameter(case.registry.open(path).views()["t"], requires_grad=False)
    case.module.register_parameter(name, weight)  # among the first, or in the rest
    with path.open("r+b") as file:
        file.truncate(8)
    with pytest.raises(TransferError, match="written over"):
        case.residency.load(CARD)
    assert used() == before


# One after the other.


class Pair:
    """Two models, and what lets the bytes of each arrive."""

    def __init__(self, folder: Path) -> None:
        self.go = [threading.Event(), threading.Event()]
        self.cases: list[Case] = []
        for number, go in enumerate(self.go):
            (folder / str(number)).mkdir()
            case = Case(folder / str(number))
            opened = file_opener(case.registry, lambda s, go=go: Held(s, go))
            self.cases.append(Case(folder / str(number), opener=opened))
        self.before = used()
        self.early = [case.residency.early(CARD) for case in self.cases]

    def let(self, number: int) -> None:
        self.go[number].set()

    def begun(self, number: int) -> bool:
        end = time.monotonic() + PATIENCE_S
        while not self.early[number].bytes and time.monotonic() < end:
            time.sleep(0.001)
        return bool(self.early[number].bytes)


def test_the_second_begins_when_the_first_has_come(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    in_turn(pair.early)
    time.sleep(0.05)
    assert [bool(early.bytes) for early in pair.early] == [True, False]
    pair.let(0)
    assert pair.begun(1)  # nobody has asked for the first one yet
    pair.let(1)
    for case, early in zip(pair.cases, pair.early, strict=True):
        case.residency.load(CARD)
        case.expect()
        assert (early.used, early.bytes) == (early.size, 0)
        assert case.residency.unload().copied_back == ()
    assert used() == pair.before


def test_what_begins_soon_begins_on_another_thread(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    in_turn(pair.early, soon=True)
    assert pair.begun(0)
    pair.let(0)
    assert pair.begun(1)
    pair.let(1)
    for case, early in zip(pair.cases, pair.early, strict=True):
        case.residency.load(CARD)
        case.expect()
        assert early.used == early.size
        case.residency.unload()
    assert used() == pair.before


def test_what_was_asked_for_before_its_turn_is_brought_by_its_load(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    in_turn(pair.early)
    pair.let(1)
    pair.cases[1].residency.load(CARD)
    pair.cases[1].expect()
    assert not pair.early[1].used
    pair.let(0)
    pair.cases[0].residency.load(CARD)
    assert pair.early[0].used
    for case in pair.cases:
        case.residency.unload()
    assert used() == pair.before


def test_where_the_first_cannot_begin_nothing_does(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    with full(100), pytest.raises(TransferError) as error:
        in_turn(pair.early)
    error.value.__traceback__ = None
    _brought_by_their_loads(pair)


def test_where_the_second_cannot_begin_the_first_comes(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    in_turn(pair.early)
    with full():
        pair.let(0)
        _settled(pair.early[1])
    pair.cases[0].residency.load(CARD)
    assert pair.early[0].used
    _brought_by_their_loads(pair)


def test_where_the_second_cannot_be_made_the_first_is_there_to_be_stopped(tmp_path: Path) -> None:
    pair = Pair(tmp_path)

    def parts() -> Iterator[Early]:
        yield pair.early[0]
        raise TransferError(None, "on purpose")

    with pytest.raises(TransferError, match="on purpose"):
        in_turn(parts())
    pair.let(0)
    pair.early[0].stop()
    _brought_by_their_loads(pair)


def _brought_by_their_loads(pair: Pair) -> None:
    for go, case in zip(pair.go, pair.cases, strict=True):
        go.set()
        case.residency.load(CARD)
        case.expect()
        case.residency.unload()
    assert used() == pair.before


def _settled(early: Early) -> None:
    end = time.monotonic() + PATIENCE_S
    while not early._over and time.monotonic() < end:
        time.sleep(0.001)
    assert early._over


def test_a_model_that_is_built_later_takes_what_came_of_its_files(tmp_path: Path) -> None:
    case = Case(tmp_path)
    before = used()
    views = [case.parameters[name].data for name in case.parameters]
    early = Placement(case.registry, lanes=PlainLane).early(views, CARD)
    early.begin()
    case.residency.take(early)
    case.residency.load(CARD)
    case.expect()
    assert early.used == early.size > 0
    case.residency.unload()
    assert used() == before


def test_without_threads_and_without_parts_nothing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, started = Pair(tmp_path), list[str]()

    def start(thread: threading.Thread) -> None:
        started.append(thread.name)
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        in_turn([])
        assert started == [], "for nothing no thread is asked for"
        in_turn(pair.early, soon=True)
    assert started == ["flux-speedup-in-turn"]
    _brought_by_their_loads(pair)
