"""Weights in RAM that the device reads where they are: the same bytes and objects, and no trace once they go."""

from __future__ import annotations

import copy
import gc
import io
import logging
import random
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from flux_speedup.ram import HALF, NOTHING, PLENTY, Free, Held, Hold
from flux_speedup.weights.errors import TransferError
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.files.ordinary import ordinary_among
from flux_speedup.weights.residency.placement import Placement
from flux_speedup.weights.residency.residency import Residency
from flux_speedup.weights.transfer.direct import Direct
from flux_speedup.weights.transfer.held_memory import HeldMemory
from flux_speedup.weights.transfer.item import Item
from flux_speedup.weights.transfer.lane import Lane
from flux_speedup.weights.transfer.registration import Registrar
from flux_speedup.weights.transfer.staging import Arena
from flux_speedup.weights.transfer.transfer import transfer
from tests.unit.weights.registering import Machine, ledger
from tests.unit.weights.weight_files import (
    CARD,
    CountingLane,
    module_of,
    random_tensor,
    raw_bytes,
    write_weights,
)
from tests.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is told apart on Linux only")


class Seeing(CountingLane):
    """Remembers where copies came from."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.sources: list[int] = []

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        self.sources.append(source.data_ptr())
        super().copy(target, source)


class Place:
    """A process: its ledger, what is registered, models, and whether somebody computes."""

    def __init__(self, *, total: int = 1 << 40, fail_at: int = -1, least: int = 1, **more: Any) -> None:
        self.machine = Machine(fail_at)
        self.ledger = ledger(total)
        self.memory = HeldMemory(registrar=self.machine.registrar, held=self.ledger, least=least)
        self.busy = False
        self.lane = Seeing()
        more = {"kinds": frozenset({"cpu"}), "quiet_s": 0.02, "busy": lambda: self.busy, **more}
        self.direct = Direct(
            Registry(), registrar=self.machine.registrar, held=self.ledger, memory=self.memory, **more
        )
        self.placement = Placement(Registry(), direct=self.direct, lanes=self._lane)

    def _lane(self, _device: torch.device) -> Lane:
        return self.lane

    def again(self, module: torch.nn.Module) -> list[int]:
        """Where a load copies from."""
        self.placement.unload(module)
        self.lane.sources.clear()
        self.placement.load(module, CARD)
        return self.lane.sources

    def held(self, module: torch.nn.Module) -> None:
        """After a load, all that can be."""
        self.placement.load(module, CARD)
        assert self.direct._idle.wait(PATIENCE_S)


def weights(count: int = 4, rows: int = 100) -> dict[str, torch.Tensor]:
    dtypes = [torch.bfloat16, torch.float32, torch.float8_e4m3fn, torch.uint8]
    return {f"w{n}": random_tensor((rows, 3 + n), dtypes[n % 4], n) for n in range(count)}


def homes_of(module: torch.nn.Module) -> dict[str, int]:
    return {name: tensor.data_ptr() for name, tensor in module.named_parameters()}


@pytest.mark.parametrize("inference", [False, True])
def test_after_a_load_the_next_one_copies_from_the_weights_themselves(inference: bool) -> None:
    place = Place()
    with torch.inference_mode(inference):
        module = module_of(weights(), {"buffer": torch.arange(300)})
    homes, before = homes_of(module), [raw_bytes(p) for p in module.parameters()]
    objects = [id(p) for p in module.parameters()]
    place.placement.load(module, CARD)
    assert not {*homes.values()} & {*place.lane.sources}
    assert place.direct._idle.wait(PATIENCE_S)
    copied = place.again(module)
    assert {*homes.values(), *place.machine.registered} == {*copied}
    assert [raw_bytes(p) for p in module.parameters()] == before
    place.placement.unload(module)
    assert homes_of(module) == homes
    assert [id(p) for p in module.parameters()] == objects
    assert [p.is_inference() for p in module.parameters()] == [inference] * 4
    assert place.ledger.bytes == place.machine.bytes == place.direct.bytes
    assert place.machine.calls == 5


def test_what_is_written_at_home_is_what_comes() -> None:
    place = Place()
    module = module_of(weights())
    place.held(module)
    place.placement.unload(module)
    with torch.no_grad():
        module.w0.fill_(7)
    assert module.w0.data_ptr() in place.again(module)
    assert bool((module.w0 == 7).all())


def test_copies_pickles_and_names_stay_what_they_are() -> None:
    place = Place()
    module = module_of(weights())
    module.tied = module.w0

    def seen() -> Any:
        twin, file = copy.deepcopy(module), io.BytesIO()
        torch.save(module.state_dict(), file)
        assert twin.tied is twin.w0
        assert not {*homes_of(twin).values()} & {*homes_of(module).values()}
        assert module.state_dict()["tied"].data_ptr() == module.w0.data_ptr()
        return [raw_bytes(p) for p in twin.parameters()], file.getbuffer().nbytes

    before = seen()
    place.held(module)
    place.placement.unload(module)
    assert place.machine.has(module.w0)
    assert seen() == before
    assert module.w0.data_ptr() in place.again(module)
    assert module.tied is module.w0


def test_memory_with_two_names_is_registered_once_and_held_for_the_last() -> None:
    place = Place()
    shared = random_tensor((50, 50), torch.float32)
    one, other = module_of({"a": shared, "b": shared}), module_of({"c": shared})
    del shared
    place.held(one)
    place.held(other)
    assert place.machine.calls == 1
    del one
    gc.collect()
    place.memory.let_ended_go()
    assert len(place.machine.registered) == 1
    assert place.again(other) == [*place.machine.registered]
    del other
    gc.collect()
    assert eventually(lambda: not place.machine.bytes)
    assert place.ledger.bytes == 0


def test_only_what_is_a_weights_own_is_registered(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "a.safetensors", {"t": random_tensor((64, 64), torch.float32)})
    raw = torch.from_file(str(path), shared=False, size=path.stat().st_size // 4, dtype=torch.float32)
    others = {
        "part": random_tensor((9, 100), torch.float32)[1:],
        "turned": torch.randn(40, 30).t(),
        "small": torch.ones(3),
        "empty": torch.empty(0, 5),
        "of_a_file": raw,
        "shared": torch.randn(100, 100).share_memory_(),
    }
    place = Place(least=64)
    module = module_of({**others, "own": torch.randn(100, 100)})
    before = {name: (raw_bytes(p), p.stride()) for name, p in module.named_parameters()}
    place.held(module)
    place.placement.unload(module)
    assert {*place.machine.registered} == {module.own.data_ptr()}
    place.again(module)
    assert {name: (raw_bytes(p), p.stride()) for name, p in module.named_parameters()} == before


def test_a_file_view_that_was_written_is_not_registered(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "a.safetensors", {"t": random_tensor((64, 64), torch.float32)})
    place, registry = Place(), Registry()
    place.placement = Placement(registry, direct=place.direct, lanes=lambda _: place.lane)
    module = module_of(registry.open(path).views())
    assert place.placement.of(module).homes() == []
    with torch.no_grad():
        module.t[0, 0] = 1.0
    place.held(module)
    assert place.machine.calls == 0


def test_where_nobody_can_tell_whose_memory_it_is_none_is_registered(tmp_path: Path) -> None:
    data = torch.randn(1000)
    own = [(data.data_ptr(), data.data_ptr() + data.nbytes)]
    assert ordinary_among(own) == own
    assert ordinary_among(own, tmp_path / "maps") == []
    maps = tmp_path / "maps"
    maps.write_text(
        "1000-3000 rw-p 00000000 00:00 0 \n"
        "3000-4000 rw-p 00000000 00:00 0                          [heap]\n"
        "4000-5000 rw-s 00000000 00:01 7                          /dev/zero (deleted)\n"
        "5000-6000 r--p 00000000 00:00 0 \n"
        "7000-8000 rw-p 00000000 08:01 99                         /a b/model.safetensors\n"
        "8000-9000 rw-p 00000000 00:00 0 \n"
    )
    inside = [(0x1000, 0x4000), (0x2FFF, 0x3001), (0x8000, 0x9000)]
    outside = [(0x0, 0x1001), (0x3FFF, 0x4001), (0x4000, 0x5000), (0x5000, 0x6000), (0x7000, 0x8000)]
    assert ordinary_among([*inside, *outside, (0x7FFF, 0x8001), (0x9000, 0x9001)], maps) == inside
    maps.write_text("what is this\n")
    assert ordinary_among(inside, maps) == []


def test_a_dropped_model_is_unregistered_before_its_memory_goes_and_while_nobody_computes() -> None:
    place = Place()
    module = module_of(weights())
    place.held(module)
    place.placement.unload(module)
    gone = weakref.ref(module.w0)
    storages = [StorageWeakRef(p.untyped_storage()) for p in module.parameters()]
    place.busy = True
    del module
    gc.collect()
    assert gone() is None  # weights themselves are held by nobody
    place.direct._idle.stir()
    place.direct.relieve()
    assert len(place.machine.registered) == 4
    assert not any(storage.expired() for storage in storages)
    place.busy = False
    assert eventually(lambda: not place.machine.registered)
    assert eventually(lambda: all(storage.expired() for storage in storages))
    assert (place.ledger.bytes, place.direct.bytes) == (0, 0)


def test_a_weight_that_was_given_other_memory_is_read_there() -> None:
    place = Place()
    module = module_of(weights())
    place.held(module)
    place.placement.unload(module)
    old = module.w1.data_ptr()
    module.w1.data = other = random_tensor((100, 4), torch.float32, 99)
    copied = place.again(module)
    assert old not in copied
    assert raw_bytes(module.w1) == raw_bytes(other)
    assert eventually(lambda: old not in place.machine.registered)  # asked by that load
    assert eventually(lambda: other.data_ptr() in place.machine.registered)


def test_memory_that_is_moved_away_is_not_read_any_more() -> None:
    place = Place()
    module = module_of(weights())
    place.held(module)
    place.placement.unload(module)
    old, before = module.w1.data_ptr(), raw_bytes(module.w1)
    module.w1.data.share_memory_()  # frees what is registered, behind everybody's back
    assert module.w1.data_ptr() != old
    copied = place.again(module)
    assert old not in copied
    assert raw_bytes(module.w1) == before
    assert eventually(lambda: old not in place.machine.registered)


def test_another_weight_at_its_old_address_is_not_taken_for_it() -> None:
    place = Place()
    module = module_of(weights(1))
    place.held(module)
    place.placement.unload(module)
    (own,) = place.memory._own.values()
    own.data = torch.zeros_like(own.data)  # as if it had been moved away, and the memory given out anew
    before = raw_bytes(module.w0)
    assert module.w0.data_ptr() not in place.again(module)
    assert raw_bytes(module.w0) == before


def test_nobody_can_resize_it_away() -> None:
    place = Place()
    module = module_of(weights())
    place.held(module)
    place.placement.unload(module)
    with pytest.raises(RuntimeError, match="not resizable"):
        module.w0.untyped_storage().resize_(0)


def items_of(module: torch.nn.Module) -> list[Item]:
    return [Item(p.data, p.dtype, tuple(p.shape)) for p in module.parameters()]


@pytest.mark.parametrize("how", ["release_all", "relieve", "gives way", "dropped"])
def test_what_a_load_uses_stays_until_it_is_over(how: str) -> None:
    place = Place()
    module = module_of(weights())
    total = sum(p.nbytes for p in module.parameters())
    place.held(module)
    place.placement.unload(module)
    items = items_of(module)
    with place.direct.lend(items, 5) as straight:
        assert sorted(straight) == [5, 6, 7, 8]
        assert [raw_bytes(straight.pieces(5 + n)[0]) for n in range(4)] == [
            raw_bytes(i.origin) for i in items
        ]  # type: ignore[arg-type]
        if how == "release_all":
            place.direct.release_all()
        elif how == "relieve":
            short = Held(lambda _: Free(1, 1 << 40))
            place.memory._ledger = short
            place.direct.relieve()
        elif how == "gives way":
            for hold in list(place.ledger._holds.values()):
                assert hold.gives_way is not None
                hold.gives_way()
        else:
            del module
            items.clear()
            gc.collect()
            place.memory.let_ended_go()
        assert place.machine.bytes == total
        straight.clear()
    gc.collect()
    if how == "gives way":
        assert place.machine.bytes == total
        for hold in list(place.ledger._holds.values()):
            assert hold.gives_way is not None
            hold.gives_way()
    assert eventually(lambda: not place.machine.bytes)
    assert place.ledger.bytes == 0


def test_it_is_held_only_where_ram_is_plenty() -> None:
    module = module_of(weights(1))
    size = module.w0.nbytes
    place = Place(total=3 * size - 1)
    place.held(module)
    assert place.machine.calls == 0
    place = Place(total=3 * size)
    place.held(module)
    assert place.machine.bytes == size


def test_what_has_no_room_leaves_it_to_what_has() -> None:
    tensors = {"large": torch.randn(1000, 10), "small": torch.randn(10, 10)}
    place = Place(total=3 * tensors["small"].nbytes)
    module = module_of(tensors)
    place.held(module)
    assert [*place.machine.registered.values()] == [module.small.nbytes]


def test_what_is_dropped_makes_room_for_what_comes() -> None:
    modules = [module_of(weights(1)) for _ in range(2)]
    place = Place(total=3 * modules[0].w0.nbytes)
    place.held(modules[0])
    assert place.machine.calls == 1
    place.busy = True
    modules.pop(0)
    place.placement.load(modules[0], CARD)
    place.busy = False
    assert place.direct._idle.wait(PATIENCE_S)
    place.placement.unload(modules[0])
    assert {*place.machine.registered} == {modules[0].w0.data_ptr()}


def test_what_was_about_to_be_registered_when_all_was_released_is_not() -> None:
    place = Place(quiet_s=60.0)
    module = module_of(weights())
    place.placement.load(module, CARD)
    (step,) = place.direct._idle._steps.values()  # the thread has it in hand
    place.direct.release_all()
    assert step()
    assert place.machine.calls == 0


def test_it_gives_way_to_what_streams_and_comes_again() -> None:
    module = module_of(weights(1))
    size = module.w0.nbytes
    place = Place(total=3 * size)
    place.held(module)
    assert place.ledger.take(size + size // 2, PLENTY) is None
    assert place.machine.bytes == size
    hold = place.ledger.take(size + size // 2, HALF)
    assert hold is not None
    assert place.machine.bytes == 0
    hold.release()
    place.again(module)
    assert place.direct._idle.wait(PATIENCE_S)
    assert place.machine.bytes == size


def test_once_ram_is_short_it_goes_for_good() -> None:
    others = 0
    machine = Machine()
    short = Held(lambda _: Free((1 << 20) - others, 1 << 20))
    memory = HeldMemory(registrar=machine.registrar, held=short, least=1)
    home = torch.randn(100)
    others = (
        1 << 20
    ) - 130_000  # nearly an eighth of it is left, and more than three times what is asked for
    assert memory.hold([home])
    assert machine.calls == 0
    others = 0
    assert memory.hold([home])
    assert memory.relieve(quiet=False)
    assert machine.bytes == home.nbytes
    others = (1 << 20) - 1000
    assert not memory.relieve(quiet=False)
    assert (machine.bytes, short.bytes) == (0, 0)
    others = 0
    assert memory.hold([home])
    assert machine.bytes == 0


@pytest.mark.parametrize("given", [{"rule": NOTHING}, {"kinds": frozenset({"cuda"})}])
def test_switched_off_or_on_other_devices_nothing_is_done(given: dict[str, Any]) -> None:
    place = Place(**given)
    module = module_of(weights())
    place.held(module)
    assert not place.direct._idle._steps
    place.again(module)
    assert (place.machine.calls, place.ledger.bytes) == (0, 0)


def test_while_somebody_computes_nothing_is_registered() -> None:
    place = Place()
    place.busy = True
    module = module_of(weights())
    place.placement.load(module, CARD)
    assert not place.direct._idle.wait(0.2)
    assert place.machine.calls == 0
    place.busy = False
    assert place.direct._idle.wait(PATIENCE_S)
    assert place.machine.calls == 4


def test_a_model_that_waits_for_it_can_go() -> None:
    place = Place()
    place.busy = True
    module = module_of(weights())
    place.placement.load(module, CARD)
    place.placement.unload(module)
    storage = StorageWeakRef(module.w0.untyped_storage())
    gone = weakref.ref(module)
    del module
    gc.collect()
    assert gone() is None
    assert storage.expired()
    place.busy = False
    assert place.direct._idle.wait(PATIENCE_S)
    assert place.machine.calls == 0


def test_a_model_that_somebody_changes_meanwhile_keeps_nothing_else_from_it() -> None:
    class Changed:
        def homes(self, names: Any) -> list[torch.Tensor]:
            raise RuntimeError("dictionary changed size during iteration")

    place, changed, module = Place(), Changed(), module_of(weights())
    place.busy = True
    place.direct.hold_memory_soon(changed, None, CARD)
    names = {"w1"}
    place.placement.load(module, CARD, names)
    names.add("w2")  # the caller's own
    place.busy = False
    assert place.direct._idle.wait(PATIENCE_S)
    place.placement.unload(module)
    assert {*place.machine.registered} == {module.w1.data_ptr()}


def test_of_a_part_of_a_model_only_that_is_registered() -> None:
    place = Place()
    module = module_of(weights())
    place.placement.load(module, CARD, {"w1", "w3"})
    assert place.direct._idle.wait(PATIENCE_S)
    place.placement.unload(module)
    assert {*place.machine.registered} == {module.w1.data_ptr(), module.w3.data_ptr()}


def test_a_model_that_is_being_moved_is_not_waited_for() -> None:
    module = module_of(weights())
    residency = Residency(module, lanes=lambda _: Seeing())
    assert len(residency.homes()) == 4
    answers: list[int] = []
    with residency._lock:
        thread = threading.Thread(target=lambda: answers.append(len(residency.homes())))
        thread.start()
        thread.join(PATIENCE_S)
    assert answers == [0]


@pytest.mark.parametrize("error", [None, RuntimeError, MemoryError, OSError])
@pytest.mark.parametrize("fail_at", [0, 2])
def test_where_it_cannot_be_registered_loads_go_on_as_before(
    error: type[Exception] | None, fail_at: int, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(fail_at=-1 if error else fail_at)
    if error is not None:

        def register(address: int, length: int) -> int:
            if place.machine.calls == fail_at:
                raise error("no more of that")
            return place.machine.registrar.register(address, length)

        place.memory._registrar = Registrar(register, place.machine.registrar.unregister)
    module = module_of(weights())
    before = [raw_bytes(p) for p in module.parameters()]
    with caplog.at_level(logging.INFO, "flux_speedup"):
        place.held(module)
        for _ in range(2):
            place.again(module)
            assert [raw_bytes(p) for p in module.parameters()] == before
            assert place.direct._idle.wait(PATIENCE_S)
    assert len(place.machine.registered) == fail_at
    assert place.ledger.bytes == place.machine.bytes
    assert [
        record.getMessage() for record in caplog.records if "not read directly" in record.getMessage()
    ] == [caplog.records[0].getMessage()]
    place.direct.release_all()
    assert (place.ledger.bytes, place.machine.bytes) == (0, 0)


def test_where_pytorch_does_not_tell_who_uses_memory_nothing_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch._C, "_storage_Use_Count", raising=False)
    place = Place()
    place.held(module_of(weights()))
    assert place.machine.calls == 0


def test_a_fault_of_a_copy_leaves_weights_and_registrations_as_they_were() -> None:
    place = Place()
    module = module_of(weights())
    place.held(module)
    place.placement.unload(module)
    homes = homes_of(module)
    lane = Seeing(fail_copy_at=2)
    with pytest.raises(TransferError):
        transfer(items_of(module), lane, Arena(limit=1 << 12, chunk=1 << 10), direct=place.direct)
    assert lane.aborted == 1
    assert homes_of(module) == homes
    assert len(place.machine.registered) == 4
    place.direct.release_all()
    assert place.machine.bytes == place.ledger.bytes == 0


def shared_anew(tensor: torch.nn.Parameter) -> None:
    tensor.data = random_tensor(tuple(tensor.shape), tensor.dtype, random.randrange(1 << 20))


def written(tensor: torch.nn.Parameter) -> None:
    with torch.no_grad():
        tensor.data.reshape(-1).view(torch.uint8)[: random.randrange(1, 9)] = random.randrange(256)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_each_load_brings_what_is_at_home(seed: int) -> None:
    order = random.Random(seed)
    place = Place(total=order.choice([20_000, 60_000, 1 << 40]), quiet_s=0.0)
    storages: dict[int, StorageWeakRef] = {}
    real = place.machine.registrar

    def register(address: int, length: int) -> int:
        if order.random() < 0.02:
            raise order.choice([MemoryError, RuntimeError])("no")
        assert ordinary_among([(address, address + length)])
        return real.register(address, length)

    def unregister(address: int) -> int:
        if storages[address].expired():
            wrong.append(AssertionError("it was freed before"))
        return real.unregister(address)

    def made(home: torch.Tensor, hold: Hold) -> Any:
        own = makes(home, hold)
        storages[own.memory.address] = StorageWeakRef(own.data.untyped_storage())
        return own

    makes = place.memory._made
    place.memory._made = made  # type: ignore[method-assign]
    place.memory._registrar = Registrar(register, unregister)
    models: list[Any] = [module_of(weights(rows=order.randrange(1, 300))) for _ in range(3)]
    stop = threading.Event()
    wrong: list[BaseException] = []

    def also() -> None:
        """What others do meanwhile."""
        own = random.Random(seed + 100)
        while not stop.wait(0.001):
            try:
                what: Callable[[], object] = own.choice(
                    [
                        place.direct.relieve,
                        place.memory.let_ended_go,
                        place.direct.release_all,
                        lambda: (hold := place.ledger.take(9_000, HALF)) and hold.release(),
                        gc.collect,
                    ]
                )
                what()
            except BaseException as error:
                wrong.append(error)
                return

    thread = threading.Thread(target=also)
    thread.start()
    try:
        for _ in range(150):
            place.busy = order.random() < 0.3
            place.memory._off = False
            number = order.randrange(len(models))
            module = models[number]
            match order.randrange(7):
                case 0:
                    place.placement.unload(module)
                    parameter = order.choice(list(module.parameters()))
                    order.choice([shared_anew, written])(parameter)
                case 1:
                    models[number] = module_of(weights(rows=order.randrange(1, 300)))
                case 2:
                    models[number] = copy.deepcopy(module) if not place.placement.of(module).away else module
                case 3:
                    module.tied = module.w2
                case 4:
                    place.memory.hold(place.placement.of(module).homes())
                case _:
                    place.placement.unload(module)
                    wanted = {name: raw_bytes(p) for name, p in module.named_parameters()}
                    place.placement.load(module, CARD)
                    assert {name: raw_bytes(p) for name, p in module.named_parameters()} == wanted
            del module
    finally:
        stop.set()
        thread.join()
    assert not wrong
    models.clear()
    gc.collect()
    place.direct.release_all()
    assert eventually(lambda: place.direct._idle._thread is None)
    assert (place.machine.registered, place.ledger.bytes) == ({}, 0)
