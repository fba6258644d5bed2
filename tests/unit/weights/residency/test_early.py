"""What is on its way before its load: found there by the load, or gone without a trace; never a wrong byte."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flux_speedup import shortage
from flux_speedup.weights.errors import TransferError
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
    assert case.residency.begin(CARD) == sum(tensor.nbytes for tensor in case.tensors.values())
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


def _stop(case: Case, go: threading.Event) -> None:
    threading.Timer(0.05, go.set).start()
    case.residency.stop()


def _unload(case: Case, go: threading.Event) -> None:
    go.set()
    case.residency.unload()


def _begin_again_and_stop(case: Case, go: threading.Event) -> None:
    go.set()
    case.residency.begin(CARD)
    case.residency.stop()


def _load_elsewhere(case: Case, go: threading.Event) -> None:
    go.set()
    case.residency.load(torch.device("hpu", 1), names=["ram"])
    case.residency.unload()


@pytest.mark.parametrize("end", [_stop, _unload, _begin_again_and_stop, _load_elsewhere])
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
    case.residency.begin(CARD)
    if fault == "changed in place":
        stat = case.path.stat()
        os.utime(case.path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    go.set()
    while case.residency._landing._early._underway._thread.is_alive():  # type: ignore[union-attr]
        pass
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
        case.residency.begin(CARD)
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
            case.residency.begin(CARD)
            case.residency.load(CARD)
        except TransferError as error:
            error.__traceback__ = None
            case.residency.stop()
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
    assert case.residency.begin(CARD)
    path = write_weights(tmp_path / "lost.safetensors", {"t": torch.ones(300)})
    weight = torch.nn.Parameter(case.registry.open(path).views()["t"], requires_grad=False)
    case.module.register_parameter(name, weight)  # among the first, or in the rest
    with path.open("r+b") as file:
        file.truncate(8)
    with pytest.raises(TransferError, match="written over"):
        case.residency.load(CARD)
    assert used() == before
