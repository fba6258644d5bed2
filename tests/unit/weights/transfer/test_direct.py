"""Files the device reads straight: held within limits, let go in time, the same bytes, all or nothing."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_speedup import ram, shortage
from flux_speedup.ram import HALF, NOTHING, Free, Held
from flux_speedup.weights.errors import TransferError
from flux_speedup.weights.files.mapping import Mapping, Registry
from flux_speedup.weights.files.span import Span, find
from flux_speedup.weights.residency.placement import Placement
from flux_speedup.weights.residency.residency import Residency
from flux_speedup.weights.residency.signature import Signature
from flux_speedup.weights.transfer.direct import Direct
from flux_speedup.weights.transfer.item import Item
from flux_speedup.weights.transfer.lane import lane_for
from flux_speedup.weights.transfer.reader import Source
from flux_speedup.weights.transfer.registration import Registrar
from flux_speedup.weights.transfer.staging import Arena
from flux_speedup.weights.transfer.transfer import Underway, transfer
from tests.unit.weights.registering import ERROR, PIECE, PLENTY, Machine, ledger
from tests.unit.weights.weight_files import (
    CARD,
    DTYPES,
    CountingLane,
    file_opener,
    module_of,
    random_tensor,
    raw_bytes,
    write_weights,
)
from tests.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="files are registered on Linux only")


def direct_of(registry: Registry, machine: Machine, **more: Any) -> Direct:
    more = {"held": ledger(), "kinds": frozenset({"cpu"}), **more}
    return Direct(registry, registrar=machine.registrar, **more)


def written(folder: Path, name: str = "a", count: int = 5, rows: int = 500) -> Path:
    tensors = {f"t{n}": random_tensor((rows, 3), torch.bfloat16, n) for n in range(count)}
    return write_weights(folder / f"{name}.safetensors", tensors)


def resident(
    module: Any,
    registry: Registry,
    direct: Direct | None,
    lane: Any = None,
    wrap: Any = lambda source: source,
    **more: Any,
) -> Residency:
    opener, arena = file_opener(registry, wrap), Arena(limit=8 << 10, chunk=1 << 10)

    def does(how: Any) -> Any:
        def begun(items: Any, chosen: Any, **told: Any) -> Any:
            return how(items, lane or chosen, arena, threads=2, opener=opener, direct=direct, **told)

        return begun

    return Residency(module, registry=registry, run=does(transfer), start=does(Underway), first=1, **more)


def test_a_held_file_is_registered_whole_and_has_the_same_bytes(tmp_path: Path) -> None:
    registry, machine = Registry(), Machine()
    path = written(tmp_path)
    mapping = registry.open(path)
    direct = direct_of(registry, machine)
    assert direct.source(mapping.identity) is None
    assert direct.hold(mapping)
    assert direct.hold(mapping)
    assert direct.bytes == machine.bytes == path.stat().st_size
    assert machine.calls == -(-path.stat().st_size // PIECE)
    source = direct.source(mapping.identity)
    assert source is not None
    assert raw_bytes(source) == path.read_bytes()
    direct.release_all()
    assert (direct.bytes, machine.bytes, direct.source(mapping.identity)) == (0, 0, None)
    assert raw_bytes(source) == path.read_bytes()  # still mapped for whoever has it


def test_the_file_that_was_mapped_is_held_whatever_its_name_leads_to(tmp_path: Path) -> None:
    registry, machine = Registry(), Machine()
    path = written(tmp_path)
    before = path.read_bytes()
    mapping = registry.open(path)
    written(tmp_path, "b", rows=7).replace(path)
    direct = direct_of(registry, machine)
    assert direct.hold(mapping)
    source = direct.source(mapping.identity)
    assert source is not None
    assert raw_bytes(source) == before


@pytest.mark.parametrize("fail_at", [0, 2])
def test_a_failure_undoes_what_was_done_and_is_told_once(
    tmp_path: Path, fail_at: int, caplog: pytest.LogCaptureFixture
) -> None:
    registry, machine = Registry(), Machine(fail_at)
    mapping = registry.open(written(tmp_path))
    direct = direct_of(registry, machine)
    with caplog.at_level(logging.INFO, "flux_speedup"):
        assert not direct.hold(mapping)
        assert not direct.hold(mapping)
    assert machine.calls == fail_at + 1
    assert (machine.bytes, direct.bytes) == (0, 0)
    (line,) = caplog.messages
    assert f"error {ERROR}" in line
    assert "a.safetensors" in line
    direct.hold_soon([mapping.identity], CARD)
    assert not direct._idle._steps


def test_a_file_changed_since_it_was_mapped_is_not_held(tmp_path: Path) -> None:
    registry, machine = Registry(leases=False), Machine()
    path = written(tmp_path)
    mapping = registry.open(path)
    os.utime(path, ns=(1, 1))
    assert not direct_of(registry, machine).hold(mapping)
    assert machine.calls == 0


def test_at_most_half_of_the_ram_with_all_that_is_held(tmp_path: Path) -> None:
    registry = Registry()
    mapping = registry.open(written(tmp_path))
    size = mapping.identity.size
    for total, others, held in (
        (2 * size, 0, True),
        (2 * size - 2, 0, False),
        (2 * size + 100, 50, True),
        (2 * size + 100, 52, False),
    ):
        machine, taken = Machine(), ledger(total)
        taken.note(others)
        direct = direct_of(registry, machine, held=taken)
        assert direct.hold(mapping) == held
        assert machine.bytes == (size if held else 0)
        assert taken.bytes == others + machine.bytes
        direct.release_all()
        assert taken.bytes == others


def test_a_refusal_for_room_is_not_for_ever(tmp_path: Path) -> None:
    registry, machine, free = Registry(), Machine(), [0]
    mapping = registry.open(written(tmp_path))
    direct = direct_of(registry, machine, held=Held(lambda _: Free(free[0], PLENTY)))
    assert not direct.hold(mapping)
    free[0] = PLENTY
    assert direct.hold(mapping)


def test_two_files_that_take_turns_never_push_each_other_out(tmp_path: Path) -> None:
    registry, machine = Registry(), Machine()
    maps = [registry.open(written(tmp_path, name)) for name in "abc"]
    views = [mapping.views() for mapping in maps]
    taken = ledger(4 * maps[0].identity.size)  # room for two
    direct = direct_of(registry, machine, held=taken)
    assert [direct.hold(mapping) for mapping in maps] == [True, True, False]
    calls = machine.calls
    for _ in range(3):  # the third is used all the time, and the others are not
        with direct.lend(items_of(registry, views[2])) as straight:
            assert not straight
        assert not direct.hold(maps[2])
        assert [direct.hold(mapping) for mapping in maps[:2]] == [True, True]
    assert machine.calls == calls
    assert machine.bytes == direct.bytes == taken.bytes == 2 * maps[0].identity.size


def test_where_ram_gets_short_what_was_used_longest_ago_goes_for_good(tmp_path: Path) -> None:
    registry, machine, others = Registry(), Machine(), [0]
    maps = [registry.open(written(tmp_path, name)) for name in "abc"]
    views = [mapping.views() for mapping in maps]
    size = maps[0].identity.size
    taken = Held(lambda _: Free(16 * size - taken.bytes - others[0], 16 * size))
    direct = direct_of(registry, machine, held=taken)
    assert [direct.hold(mapping) for mapping in maps] == [True, True, True]

    def held() -> str:
        sources = zip("abc", (direct.source(mapping.identity) for mapping in maps), strict=True)
        return "".join(name for name, source in sources if source is not None)

    with direct.lend(items_of(registry, views[0])):
        pass
    assert direct.relieve()
    assert held() == "abc"
    others[0] = 16 * size - 3 * size - 2 * size + 1  # just short: an eighth is two of them
    assert direct.relieve()
    assert held() == "ac"
    with direct.lend(items_of(registry, views[2])):
        others[0] += 3 * size
        assert direct.relieve()
        assert held() == "c"  # a load uses it
    assert not direct.relieve()
    assert (held(), machine.bytes, taken.bytes) == ("", 0, 0)
    others[0] = 0
    assert not any(direct.hold(mapping) for mapping in maps)


def items_of(registry: Registry, views: dict[str, torch.Tensor]) -> list[Item]:
    found = [(view, find(view, registry)) for view in views.values()]
    return [Item(view if span is None else span, view.dtype, tuple(view.shape)) for view, span in found]


def test_what_is_released_during_a_load_stays_registered_until_its_end(tmp_path: Path) -> None:
    registry, machine = Registry(), Machine()
    mapping = registry.open(written(tmp_path))
    direct = direct_of(registry, machine)
    direct.hold(mapping)
    with direct.lend(items_of(registry, mapping.views())), direct.lend(items_of(registry, mapping.views())):
        direct.release_all()
        assert machine.bytes == mapping.identity.size
    assert machine.bytes == 0


def test_a_file_is_released_with_its_last_view(tmp_path: Path) -> None:
    registry, machine = Registry(), Machine()
    mapping: Mapping | None = registry.open(written(tmp_path))
    direct = direct_of(registry, machine)
    assert mapping is not None
    direct.hold(mapping)
    views = mapping.views()
    mapping = None
    gc.collect()
    assert machine.bytes
    with direct._files._lock, direct._changing:  # wherever it dies: no lock is waited for
        views.clear()
        gc.collect()
    assert (machine.bytes, direct.bytes) == (0, 0)


@settings(deadline=None, max_examples=50)
@given(
    specs=st.lists(
        st.tuples(
            st.lists(st.integers(0, 12), max_size=3).map(tuple), st.sampled_from(list(DTYPES.values()))
        ),
        min_size=1,
        max_size=10,
    ),
    piece=st.sampled_from([1, 7, 64, 1000, 1 << 20]),
    cuts=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 20), st.integers(0, 20)), max_size=6),
    order=st.randoms(use_true_random=False),
)
def test_direct_and_staged_bytes_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, specs: Any, piece: int, cuts: Any, order: Any
) -> None:
    tensors = {f"t{n}": random_tensor(shape, dtype, n) for n, (shape, dtype) in enumerate(specs)}
    registry, machine = Registry(), Machine(piece=piece)
    mapping = registry.open(write_weights(tmp_path_factory.mktemp("d") / "a.safetensors", tensors))
    views = mapping.views()
    for number, (which, start, stop) in enumerate(cuts):  # slices, which overlap
        view = views[f"t{which % len(specs)}"].reshape(-1)
        views[f"slice{number}"] = view[start : max(start, stop)]
    names = list(views)
    order.shuffle(names)
    items = items_of(registry, {name: views[name] for name in names})
    direct = direct_of(registry, machine)
    assert direct.hold(mapping)
    lane, arrived = CountingLane(), []
    new = transfer(
        items,
        lane,
        Arena(limit=4096, chunk=512),
        threads=2,
        opener=file_opener(registry),
        arrived=lambda number, tensor: arrived.append((number, raw_bytes(tensor))),
        direct=direct,
    )
    spans = [item.origin for item in items if isinstance(item.origin, Span)]
    assert lane.copies == sum((s.offset + s.length - 1) // piece - s.offset // piece + 1 for s in spans)
    assert [raw_bytes(tensor) for tensor in new] == [raw_bytes(views[name]) for name in names]
    assert [tensor.shape for tensor in new] == [views[name].shape for name in names]
    assert sorted(arrived) == [(n, raw_bytes(views[name])) for n, name in enumerate(names)]


class Unread:
    """A source of which nobody may read a byte."""

    def __init__(self, source: Source) -> None:
        self.path, self.check, self.close = source.path, source.check, source.close

    def read_into(self, offset: int, target: memoryview) -> None:
        raise AssertionError(f"read at {offset}")


@pytest.mark.parametrize("early", [False, True])
def test_a_module_goes_there_and_back_with_and_without(tmp_path: Path, early: bool) -> None:
    registry, machine = Registry(), Machine()
    mapping = registry.open(written(tmp_path))
    direct = direct_of(registry, machine)
    modules = [module_of(mapping.views()) for _ in range(2)]
    assert direct.hold(mapping)
    both = [resident(modules[0], registry, direct, wrap=Unread), resident(modules[1], registry, None)]
    for _ in range(2):
        if early:
            assert [one.early(CARD).begin() for one in both] == [
                sum(v.nbytes for v in mapping.views().values())
            ] * 2
        reports = [one.load(CARD) for one in both]
        assert [one.early == one.bytes for one in reports] == [early] * 2
        assert reports[0].by_backing == reports[1].by_backing
        loaded = [[raw_bytes(p) for p in module.parameters()] for module in modules]
        assert loaded[0] == loaded[1] == [raw_bytes(view) for view in mapping.views().values()]
        assert [one.unload().copied_back for one in both] == [(), ()]  # the checksums are those of the bytes


def test_what_came_early_for_nobody_is_not_lent_any_longer(tmp_path: Path) -> None:
    registry, machine = Registry(), Machine()
    mapping = registry.open(written(tmp_path))
    direct = direct_of(registry, machine)
    assert direct.hold(mapping)
    module = module_of(mapping.views())
    residency = resident(module, registry, direct)
    early = residency.early(CARD)
    assert early.begin()
    direct.release_all()
    early.stop()
    assert machine.bytes == 0
    residency.load(CARD)
    assert [raw_bytes(p) for p in module.parameters()] == [raw_bytes(v) for v in mapping.views().values()]


def test_ram_and_other_files_are_staged_in_the_same_call(tmp_path: Path) -> None:
    registry, machine = Registry(), Machine()
    held, other = (registry.open(written(tmp_path, name)) for name in ("held", "other"))
    direct = direct_of(registry, machine)
    assert direct.hold(held)
    ram = random_tensor((300, 50), torch.float32)
    parts = [items_of(registry, mapping.views()) for mapping in (other, held)]
    small = Item(torch.tensor(3), torch.int64, ())
    items = [Item(ram, torch.float32, (300, 50)), *parts[0], small, *parts[1]]
    with direct.lend(items) as straight:
        assert sorted(straight) == [*range(7, 12)]
    arena = Arena(limit=8 << 10, chunk=1 << 10)
    new = transfer(items, lane_for(CARD), arena, opener=file_opener(registry), direct=direct)
    expected = [ram, *other.views().values(), torch.tensor(3), *held.views().values()]
    for got, wanted in zip(new, expected, strict=True):
        assert torch.equal(got.nan_to_num(), wanted.nan_to_num())


@pytest.mark.parametrize("when", ["between hold and load", "during the load"])
def test_a_file_changed_in_place_leaves_every_parameter_whole_and_old(tmp_path: Path, when: str) -> None:
    registry, machine = Registry(leases=False), Machine()
    path = written(tmp_path)
    mapping = registry.open(path)
    direct = direct_of(registry, machine)
    assert direct.hold(mapping)
    module = module_of(mapping.views())
    places = [parameter.data_ptr() for parameter in module.parameters()]

    def change() -> None:
        with path.open("r+b") as file:
            file.seek(-4, os.SEEK_END)
            file.write(b"else")
        os.utime(path, ns=(1, 1))

    class Changing(CountingLane):
        def finish(self) -> None:
            change()

    if when == "between hold and load":
        change()
    lane = Changing()
    with pytest.raises(TransferError, match=r"changed or replaced|written over") as caught:
        resident(module, registry, direct, lane).load(CARD)
    assert caught.value.path == path
    assert [parameter.data_ptr() for parameter in module.parameters()] == places
    with direct.lend(items_of(registry, mapping.views())):
        pass
    direct.release_all()  # no longer lent to anybody
    assert machine.bytes == 0


@pytest.mark.parametrize("what", ["no room for the check", "no room", "written over"])
def test_a_fault_in_the_rest_leaves_nothing_of_what_was_on_its_way(tmp_path: Path, what: str) -> None:
    registry, machine, made = Registry(leases=False), Machine(), []
    paths = [written(tmp_path, name, 3) for name in "ab"]
    mappings = [registry.open(path) for path in paths]
    direct = direct_of(registry, machine)
    assert all(map(direct.hold, mappings))
    views = [{f"{n}_{key}": view for key, view in each.views().items()} for n, each in enumerate(mappings)]
    module = module_of({**views[0], **views[1]})
    before = {name: (raw_bytes(each), each.data_ptr()) for name, each in module.named_parameters()}
    lane = CountingLane(fail_empty_at=4 if what == "no room" else -1)

    def signed(sizes: Sequence[int], *where: Any, **more: Any) -> Signature:
        made.append(len(sizes))
        if len(made) == 2 and what == "no room for the check":
            raise torch.OutOfMemoryError("no room on the device")
        if len(made) == 2 and what == "written over":  # in the very moment
            with paths[1].open("r+b") as file:
                file.seek(-64, os.SEEK_END)
                file.write(b"others")
        return Signature(sizes, *where, **more)

    residency = resident(module, registry, direct, lane, signed=signed)
    with pytest.raises(TransferError):
        residency.load(CARD)
    assert len(made) > 1
    assert lane.aborted == 1
    buffers = [weakref.ref(tensor) for tensor in lane.made]
    assert buffers
    lane.made.clear()
    assert [buffer() for buffer in buffers] == [None] * len(buffers)
    now = {name: (raw_bytes(each), each.data_ptr()) for name, each in module.named_parameters()}
    assert now.keys() == before.keys()
    assert all(now[name] == before[name] for name in before if what != "written over" or name[0] == "0")
    assert residency.resident == ()
    if what == "no room for the check":
        residency.load(CARD)
        assert {name: raw_bytes(each) for name, each in module.named_parameters()} == {
            name: raw for name, (raw, _) in before.items()
        }
    direct.release_all()


@pytest.mark.parametrize("fault", [{"fail_copy_at": 3}, {"fail_empty_at": 3}, {"fail_copy_at": 0}])
def test_a_fault_on_the_device_drops_everything(tmp_path: Path, fault: dict[str, int]) -> None:
    registry, machine = Registry(), Machine()
    mapping = registry.open(written(tmp_path))
    direct = direct_of(registry, machine)
    assert direct.hold(mapping)
    items = items_of(registry, mapping.views())
    lane = CountingLane(**fault)  # type: ignore[arg-type]
    arena = Arena(limit=8 << 10, chunk=1 << 10)
    with pytest.raises(TransferError) as caught:
        transfer(items, lane, arena, opener=file_opener(registry), direct=direct)
    assert lane.aborted == 1
    buffers = [weakref.ref(tensor) for tensor in lane.made]
    lane.made.clear()
    gc.collect()
    assert [buffer() for buffer in buffers] == [None] * len(buffers)  # while the error is still held
    assert shortage.of_card(caught.value) == ("fail_empty_at" in fault)
    direct.release_all()
    assert machine.bytes == 0


def test_by_the_rule_for_nothing_nothing_is_held(tmp_path: Path) -> None:
    registry, machine = Registry(), Machine()
    direct = direct_of(registry, machine, rule=NOTHING)
    mapping = registry.open(written(tmp_path))
    direct.hold_soon([mapping.identity], CARD)
    assert not direct._idle._steps
    assert not direct.hold(mapping)
    assert direct.hold(mapping, HALF)  # who needs it more says so
    span = find(mapping.views()["t2"], registry)
    assert span is not None
    pieces = direct.pieces(span)
    assert pieces is not None
    assert raw_bytes(torch.cat(pieces)) == raw_bytes(mapping.views()["t2"])
    direct.release_all()
    assert direct.pieces(span) is None
    direct.rule = HALF
    assert direct.hold(mapping)


def test_after_a_load_its_file_is_held_once_nobody_computes(tmp_path: Path) -> None:
    registry, machine, busy = Registry(), Machine(), [True]
    threads: list[str] = []

    def register(address: int, length: int) -> int:
        threads.append(threading.current_thread().name)
        assert not busy[0]
        busy[0] = len(threads) == 1  # an image is asked for after the first piece
        return machine.registrar.register(address, length)

    registrar = Registrar(register, machine.registrar.unregister, PIECE)
    direct = direct_of(registry, machine, busy=lambda: busy[0], quiet_s=0.05)
    direct._registrar = registrar
    mapping = registry.open(written(tmp_path))
    module = module_of(mapping.views())
    # Spans are opened through the process's own registry there: the names are still those of the files.
    placement = Placement(registry, direct=direct)
    placement.load(module, CARD)
    assert not direct._idle.wait(0.3)
    assert threads == []
    busy[0] = False
    assert not direct._idle.wait(0.3)
    assert len(threads) == 1
    assert direct.source(mapping.identity) is None
    placement.unload(module)
    placement.load(module, CARD)  # staged: what is held only in part is nobody's source
    busy[0] = False
    assert direct._idle.wait(PATIENCE_S)
    assert set(threads) == {"flux-speedup-idle"}
    assert direct.source(mapping.identity) is not None
    assert direct.bytes == machine.bytes == mapping.identity.size
    calls = len(threads)
    placement.unload(module)
    placement.load(module, CARD)
    assert [raw_bytes(p) for p in module.parameters()] == [raw_bytes(v) for v in mapping.views().values()]
    assert len(threads) == calls


def test_what_is_held_where_ram_is_plenty_goes_where_something_that_streams_has_no_room(
    tmp_path: Path,
) -> None:
    registry, machine = Registry(), Machine()
    loaded, streams, other = (registry.open(written(tmp_path, name)) for name in "abc")
    size = loaded.identity.size
    taken = ledger(3 * size)
    direct = direct_of(registry, machine, held=taken, rule=ram.PLENTY, quiet_s=0.0)
    direct.hold_soon([loaded.identity], CARD)
    assert direct._idle.wait(PATIENCE_S)
    assert direct.source(loaded.identity) is not None
    assert not direct.hold(other)  # half of it all would do; twice a file would not stay free
    with direct.lend(items_of(registry, loaded.views())):
        assert not direct.hold(streams, HALF)  # a load uses it
        assert direct.source(loaded.identity) is not None
    assert direct.hold(streams, HALF)
    assert direct.source(loaded.identity) is None
    assert machine.bytes == taken.bytes == size
    assert not direct.hold(other, HALF)  # what streams gives way to nobody
    direct.release_all()
    assert direct.hold(loaded)  # it was let go, not given up
    assert direct.hold(loaded, HALF)  # streams itself now
    assert not direct.hold(streams, HALF)


def test_a_piece_is_registered_before_anybody_notices() -> None:
    assert Registrar(lambda *_: 0, lambda *_: 0).piece / 25e9 < 0.005


def test_while_anything_is_held_it_is_watched_whether_ram_gets_short(tmp_path: Path) -> None:
    registry, machine, others = Registry(), Machine(), [0]
    mapping = registry.open(written(tmp_path))
    size = mapping.identity.size
    taken = Held(lambda _: Free(16 * size - taken.bytes - others[0], 16 * size))
    direct = direct_of(registry, machine, held=taken, busy=lambda: True)
    others[0] = 13 * size + 1
    assert direct.hold(mapping, HALF)
    others[0] = 14 * size
    assert eventually(lambda: not machine.bytes)


def test_what_is_held_in_the_background_is_watched_as_well(tmp_path: Path) -> None:
    registry, machine, others, busy = Registry(), Machine(), [0], [True]
    mapping = registry.open(written(tmp_path))
    size = mapping.identity.size
    taken = Held(lambda _: Free(16 * size - taken.bytes - others[0], 16 * size))
    direct = direct_of(registry, machine, held=taken, busy=lambda: busy[0], quiet_s=0.05)
    direct.hold_soon([mapping.identity], CARD)
    assert not direct._idle.wait(0.2)  # nothing was held yet when it was looked whether to watch
    busy[0] = False
    assert eventually(lambda: machine.bytes == size)
    others[0] = 14 * size
    assert eventually(lambda: not machine.bytes)


def test_what_was_about_to_be_registered_when_all_was_released_is_not(tmp_path: Path) -> None:
    registry, machine = Registry(), Machine()
    mapping = registry.open(written(tmp_path))
    direct = direct_of(registry, machine, quiet_s=60.0)
    direct.hold_soon([mapping.identity], CARD)
    (step,) = direct._idle._steps.values()  # the thread has it in hand
    direct.release_all()
    assert step()
    assert (machine.calls, direct.bytes) == (0, 0)


def test_a_file_that_is_not_in_ram_is_not_read_in_for_it(tmp_path: Path) -> None:
    registry, machine = Registry(), Machine()
    mapping = registry.open(written(tmp_path))
    direct = direct_of(registry, machine, warm=lambda path: False, quiet_s=0.0)
    direct.hold_soon([mapping.identity], CARD)
    assert direct._idle.wait(PATIENCE_S)
    assert (machine.calls, direct.bytes) == (0, 0)


def test_a_file_whose_views_die_while_it_is_registered_leaves_nothing(tmp_path: Path) -> None:
    registry, machine, taken = Registry(), Machine(), ledger()
    direct = direct_of(registry, machine, held=taken)
    mapping: Mapping | None = registry.open(written(tmp_path))
    assert mapping is not None
    assert not direct._advance(mapping, deque([0, 1]), HALF)
    assert machine.bytes == PIECE
    del mapping
    gc.collect()
    assert (machine.bytes, direct.bytes, taken.bytes) == (0, 0, 0)


def test_devices_that_read_nothing_registered_hold_nothing(tmp_path: Path) -> None:
    registry, machine = Registry(), Machine()
    mapping = registry.open(written(tmp_path))
    direct = direct_of(registry, machine, kinds=frozenset({"cuda"}))
    direct.hold_soon([mapping.identity], CARD)
    assert not direct._idle._steps
