"""Files held before the first load: straight once it comes, and let go in every way in which it does not."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flux_speedup import ram
from flux_speedup.ram import Free, Held
from flux_speedup.weights.files.mapping import Mapping, Registry
from flux_speedup.weights.residency.placement import Placement
from flux_speedup.weights.transfer import idle
from flux_speedup.weights.transfer.direct import Direct
from tests.unit.weights.registering import Machine, ledger
from tests.unit.weights.weight_files import CARD, module_of, random_tensor, raw_bytes, write_weights
from tests.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="files are registered on Linux only")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "_POLL_S", 0.01)
    monkeypatch.setattr(idle, "_WATCH_S", 0.01)


class Start:
    """A process that has just started, with the files of the selected model."""

    def __init__(self, folder: Path, names: str = "ab", leases: bool = True, **more: Any) -> None:
        self.registry, self.machine = Registry(leases=leases), Machine()
        self.paths = [
            write_weights(
                folder / f"{name}.safetensors", {"t": random_tensor((900, 3), torch.bfloat16, number)}
            )
            for number, name in enumerate(names)
        ]
        self.size = sum(path.stat().st_size for path in self.paths)
        self.selected = True
        more = {"held": ledger(), "rule": ram.PLENTY, "quiet_s": 0.0, "kinds": frozenset({"cpu"}), **more}
        self.direct = Direct(self.registry, registrar=self.machine.registrar, **more)

    def prepare(self) -> None:
        self.direct.prepare(self.paths, CARD, lambda: self.selected)
        assert self.direct._idle.wait(PATIENCE_S)

    def is_over(self) -> bool:
        """Nothing is registered, and nothing mapped for nobody."""
        return eventually(lambda: not self.machine.bytes and not self.registry.live())


@pytest.fixture
def start(tmp_path: Path) -> Start:
    made = Start(tmp_path)
    made.prepare()
    assert made.machine.bytes == made.direct.bytes == made.size
    return made


def test_the_first_load_goes_straight_and_what_it_read_stays_held_as_long_as_its_model(start: Start) -> None:
    module = module_of({str(n): start.registry.open(p).views()["t"] for n, p in enumerate(start.paths)})
    before, calls = [raw_bytes(each) for each in module.parameters()], start.machine.calls
    placement = Placement(start.registry, direct=start.direct)
    report = placement.load(module, CARD)
    assert report.bytes
    assert [raw_bytes(each) for each in module.parameters()] == before
    assert start.direct._files.all()[0].used > 1, "it was lent"
    assert eventually(lambda: not start.registry.kept)
    gc.collect()
    assert (start.machine.bytes, start.machine.calls) == (start.size, calls), "nothing was registered anew"
    assert start.direct._idle.wait(PATIENCE_S)
    assert start.machine.calls == calls
    placement.unload(module)
    del module
    gc.collect()
    assert start.is_over()


def test_where_another_model_is_loaded_first_it_is_let_go(start: Start, tmp_path: Path) -> None:
    other = write_weights(tmp_path / "c.safetensors", {"t": random_tensor((900, 3), torch.bfloat16, 9)})
    placement = Placement(start.registry, direct=start.direct)
    placement.load(module := module_of(start.registry.open(other).views()), CARD)
    assert eventually(lambda: start.machine.bytes == other.stat().st_size)
    assert [mapping.path for mapping in start.registry.live()] == [other]
    placement.unload(module)


def test_where_another_one_is_selected_it_is_let_go(start: Start) -> None:
    start.selected = False
    assert start.is_over()
    start.selected = True
    start.prepare()
    assert start.is_over()


@pytest.mark.parametrize("how", ["deleted", "replaced", "renamed"])
def test_a_file_that_its_name_does_not_lead_to_any_more_is_let_go(start: Start, how: str) -> None:
    path, kept = start.paths
    descriptors = {f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")}  # noqa: PTH208
    assert any(os.path.realpath(each) == str(path) for each in descriptors)
    if how == "deleted":
        path.unlink()
    elif how == "replaced":
        write_weights(path.with_name("new"), {"t": random_tensor((900, 3), torch.bfloat16, 5)}).replace(path)
    else:
        path.rename(path.with_name("other.safetensors"))
    assert eventually(lambda: start.machine.bytes == kept.stat().st_size)
    assert [mapping.path for mapping in start.registry.live()] == [kept]


@pytest.mark.parametrize("leases", [True, False])
def test_who_writes_over_a_file_waits_for_nothing_but_its_end(
    tmp_path: Path, leases: bool, caplog: pytest.LogCaptureFixture
) -> None:
    start = Start(tmp_path, leases=leases)
    start.prepare()
    path, kept = start.paths
    with caplog.at_level(logging.INFO, "flux_speedup"):
        write_weights(path, {"t": random_tensor((900, 3), torch.bfloat16, 7)})
        assert eventually(lambda: start.machine.bytes == kept.stat().st_size)
    assert [mapping.path for mapping in start.registry.live()] == [kept]
    assert "in RAM" not in caplog.text, "nothing of it was saved"
    mapping = start.registry.open(path)
    assert raw_bytes(mapping.views()["t"]) == raw_bytes(random_tensor((900, 3), torch.bfloat16, 7))


def test_where_ram_gets_short_it_is_let_go(tmp_path: Path) -> None:
    free = [1 << 40]
    start = Start(tmp_path, held=Held(lambda _: Free(free[0], 1 << 40)))
    start.prepare()
    assert start.machine.bytes == start.size
    free[0] = 1 << 36
    assert eventually(lambda: not start.machine.bytes)


def test_where_there_is_no_room_nothing_is_held(tmp_path: Path) -> None:
    start = Start(tmp_path)
    start.direct._ledger = ledger(3 * start.size // 2 - 3)
    start.prepare()
    assert start.machine.bytes == 0
    start.selected = False
    assert start.is_over()


def test_what_is_switched_off_lets_it_go_for_good(start: Start) -> None:
    start.direct.release_all()
    assert start.machine.bytes == 0
    assert start.is_over()
    start.prepare()
    assert start.is_over()


def nothing(start: Start, patch: pytest.MonkeyPatch) -> None:
    start.direct.rule = ram.NOTHING


def another_device(start: Start, patch: pytest.MonkeyPatch) -> None:
    start.direct._kinds = frozenset({"cuda"})


def another_system(start: Start, patch: pytest.MonkeyPatch) -> None:
    start.direct._kinds = frozenset()  # Windows, ROCm


def from_a_disk(start: Start, patch: pytest.MonkeyPatch) -> None:
    start.direct._warm = lambda path: False


def no_weight_files(start: Start, patch: pytest.MonkeyPatch) -> None:
    for path in start.paths:
        path.write_bytes(b"else")


@pytest.mark.parametrize(
    "why",
    [nothing, another_device, another_system, from_a_disk, no_weight_files],
    ids=lambda why: why.__name__,
)
def test_no_file_is_mapped_for_nothing(
    tmp_path: Path, why: Callable[[Start, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Start(tmp_path)
    why(start, monkeypatch)
    start.prepare()
    assert (start.machine.calls, start.registry.live()) == (0, [])


def test_what_somebody_has_mapped_is_not_mapped_again(tmp_path: Path) -> None:
    start = Start(tmp_path, "a")
    mapping = start.registry.open(start.paths[0])
    start.prepare()
    assert (len(start.registry.live()), start.machine.calls) == (1, 0)
    assert mapping.path == start.paths[0]


def test_a_file_of_any_kind_is_held(tmp_path: Path) -> None:
    start = Start(tmp_path, "")
    start.paths = [tmp_path / "model.gguf"]
    start.paths[0].write_bytes(os.urandom(10_000))
    start.prepare()
    assert start.machine.bytes == 10_000


def test_a_request_that_begins_meanwhile_is_waited_for(tmp_path: Path) -> None:
    busy, reached = [False], threading.Event()
    start = Start(tmp_path, busy=lambda: busy[0], quiet_s=0.05)
    register = start.machine.registrar.register

    def registered(address: int, length: int) -> int:
        busy[0] = start.machine.calls == 1
        reached.set()
        return register(address, length)

    object.__setattr__(start.machine.registrar, "register", registered)
    start.direct.prepare(start.paths, CARD, lambda: True)
    assert reached.wait(PATIENCE_S)
    assert eventually(lambda: busy[0])
    assert not start.direct._idle.wait(0.2)
    assert start.machine.calls == 2
    busy[0] = False
    assert start.direct._idle.wait(PATIENCE_S)
    assert start.machine.bytes == start.size


def test_what_is_held_follows_the_file_from_mapping_to_mapping(tmp_path: Path) -> None:
    start = Start(tmp_path, "a")
    first: Mapping | None = start.registry.open(start.paths[0])
    assert first is not None
    assert start.direct.hold(first)
    second: Mapping | None = start.registry.open(start.paths[0])
    first = None
    gc.collect()
    assert second is not None
    assert start.machine.bytes == start.size
    lent = start.direct._files.borrow([second.identity])
    third: Mapping | None = start.registry.open(start.paths[0])
    second = None
    start.direct._files.give_back(lent)
    gc.collect()
    assert start.machine.bytes == start.size
    with start.direct._files._lock, start.direct._changing:  # wherever it dies: no lock is waited for
        third = None
        gc.collect()
    assert third is None
    assert (start.machine.bytes, start.direct.bytes, start.direct._ledger.bytes) == (0, 0, 0)


@pytest.mark.parametrize("how", ["nobody computes", "somebody has no room", "RAM is short", "switched off"])
def test_a_model_that_is_dropped_while_somebody_computes_is_let_go_later(tmp_path: Path, how: str) -> None:
    busy, others = [True], [0]
    start = Start(tmp_path, busy=lambda: busy[0], quiet_s=0.01)
    total = 8 * start.size
    start.direct._ledger = taken = Held(lambda _: Free(total - taken.bytes - others[0], total))
    first: Mapping | None = start.registry.open(start.paths[0])
    second = start.registry.open(start.paths[1])
    assert first is not None
    size = first.identity.size
    assert start.direct.hold(first, ram.HALF)
    first = None
    gc.collect()
    assert (start.direct.bytes, start.machine.bytes, taken.bytes) == (0, size, size)
    if how == "nobody computes":
        busy[0] = False
    elif how == "RAM is short":
        others[0] = total * 7 // 8
    elif how == "switched off":
        start.direct.release_all()
        assert start.machine.bytes == 0
    else:
        taken.note(total // 2 - size)
        assert start.direct.hold(second, ram.HALF)
        assert start.machine.bytes == size
        start.direct.release_all()
    assert eventually(lambda: start.machine.bytes == 0)
