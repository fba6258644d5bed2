"""Load and unload: nothing moves back, nothing is lost, and the parameter objects stay the same."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch

from flux_speedup import shortage
from flux_speedup.ram import available
from flux_speedup.weights.errors import TransferError
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.files.span import find
from flux_speedup.weights.residency.backing import Backing, classify, prove
from flux_speedup.weights.residency.known_sums import KnownSums
from flux_speedup.weights.residency.roster import Roster
from flux_speedup.weights.residency.signature import Signature
from tests import second_device
from tests.second_device import counted, full, used
from tests.second_device.marks import needs_card
from tests.unit.weights.weight_files import (
    CountingLane,
    file_opener,
    identity_of,
    module_of,
    random_tensor,
    raw_bytes,
    residency_of,
    write_weights,
)

CARD = second_device.CARD
pytestmark = needs_card
MODES: dict[str, Any] = {
    "grad": torch.enable_grad,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
}


class Case:
    """A file, a module over it (two views, a RAM tensor, a buffer), and its residency."""

    def __init__(
        self,
        folder: Path,
        *,
        mode: AbstractContextManager[Any] | None = None,
        available: Callable[[], int] = available,
        **more: Any,
    ) -> None:
        self.registry = Registry(available=available)
        self.tensors = {
            "a": random_tensor((50, 64), torch.bfloat16, 1).nan_to_num(),
            "b": random_tensor((33, 40), torch.float16, 2).nan_to_num(),
            "c": random_tensor((90, 10), torch.float8_e4m3fn, 3),
        }
        self.path = write_weights(folder / "a.safetensors", self.tensors)
        self.ram = torch.randn(17, 3)
        with mode or torch.enable_grad():
            self.views = self.registry.open(self.path).views()
            self.module = module_of({**self.views, "ram": self.ram.clone()}, {"positions": torch.arange(9)})
        self.parameters = dict(self.module.named_parameters())
        self.inference = {name: p.is_inference() for name, p in self.parameters.items()}
        self.residency = residency_of(self.module, self.registry, **more)

    def expect(self, **changed: torch.Tensor) -> None:
        """The module's values and objects are the ones it was built with, less what is named."""
        assert {name: p.is_inference() for name, p in self.parameters.items()} == self.inference
        assert {id(p) for p in self.module.parameters()} == {id(p) for p in self.parameters.values()}
        built = {**self.tensors, "ram": self.ram, "positions": torch.arange(9)}
        for name, tensor in {**built, **changed}.items():
            now = self.parameters.get(name, self.module.positions)
            assert raw_bytes(now) == raw_bytes(tensor), name

    def at_home(self) -> None:
        """Views are views of the file again, and nothing is on the card."""
        assert self.residency.resident == ()
        for name in self.tensors:
            assert find(self.parameters[name], self.registry) is not None, name


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


@pytest.mark.parametrize("built", MODES)
@pytest.mark.parametrize("used", MODES)
def test_there_and_back_again(tmp_path: Path, built: str, used: str) -> None:
    case = Case(tmp_path, mode=MODES[built]())
    assert set(case.inference.values()) == {built == "inference"}
    addresses = {name: parameter.data_ptr() for name, parameter in case.parameters.items()}
    for _ in range(2):
        with MODES[used]():
            report = case.residency.load(CARD)
        case.expect()
        assert not any(find(parameter, case.registry) for parameter in case.parameters.values())
        assert report.bytes == sum(t.nbytes for t in (*case.parameters.values(), case.module.positions))
        assert report.by_backing[Backing.SPAN] == sum(t.nbytes for t in case.tensors.values())
        assert report.by_backing[Backing.HOST] == case.ram.nbytes + 9 * 8
        assert report.skipped == ()
        with MODES[used]():
            back = case.residency.unload()
        case.expect()
        case.at_home()
        assert {name: parameter.data_ptr() for name, parameter in case.parameters.items()} == addresses
        assert (back.bytes, back.copied_back) == (report.bytes, ())


def test_a_second_load_moves_nothing_and_an_unload_at_home_drops_nothing(case: Case) -> None:
    assert case.residency.unload().bytes == 0
    case.residency.load(CARD)
    assert case.residency.load(CARD).bytes == 0
    assert case.residency.unload().bytes > 0
    assert case.residency.unload().bytes == 0


def test_device_memory_goes_at_unload(case: Case) -> None:
    before = used()
    case.residency.load(CARD)
    assert used() > before
    case.residency.unload()
    assert used() == before


def test_an_unload_takes_nothing_on_a_card_that_is_full(case: Case) -> None:
    """Clean weights and changed ones."""
    case.residency.load(CARD)
    with torch.no_grad():
        case.parameters["b"].zero_()
    allocations = counted()
    with full():
        assert case.residency.unload().copied_back == ("b",)
    assert allocations.count == 0
    case.expect(b=torch.zeros(33, 40, dtype=torch.float16))


def test_a_card_without_room_for_the_check_gets_no_weights(case: Case) -> None:
    """What was brought must be droppable later, whatever happens."""
    with full(10_000), pytest.raises(TransferError) as failed:
        case.residency.load(CARD)
    assert shortage.of_card(failed.value)
    case.expect()
    case.at_home()


@pytest.mark.parametrize("room", [70_000, 700_000, 7_000_000])
def test_the_check_makes_do_with_little_room(case: Case, room: int) -> None:
    weights = sum(parameter.nbytes for parameter in case.parameters.values())
    with full(weights + 70_000 + room):
        case.residency.load(CARD)
        case.expect()
        assert case.residency.unload().copied_back == ()
    case.at_home()


@pytest.mark.parametrize("mode", MODES)
def test_a_parameter_of_inference_mode_that_was_given_ordinary_data_is_checked_too(
    tmp_path: Path, mode: str
) -> None:
    """It has no version counter then, and refuses every view of itself, in every mode."""
    case = Case(tmp_path, mode=torch.inference_mode())
    with torch.inference_mode():
        case.residency.load(CARD)
    for parameter in case.module.parameters():
        ordinary = torch.empty(0, dtype=parameter.dtype, device=CARD)
        there = parameter.data
        parameter.data = ordinary.set_(there.untyped_storage(), 0, there.shape, there.stride())
    with MODES[mode]():
        assert set(case.residency.resident) == {*case.parameters, "positions"}
        assert case.residency.unload().copied_back == ()
    case.at_home()


class TestMovedBySomebodyElse:
    """A script moves a model, a host moves parts of one: what a tensor shows counts, not what was noted."""

    def test_what_was_moved_home_frees_the_card_and_is_loaded_again(self, case: Case) -> None:
        before = used()
        case.residency.load(CARD)
        once = used() - before
        case.module.to("cpu")
        assert case.residency.resident == ()
        assert used() == before
        report = case.residency.load(CARD)
        assert (report.skipped, used() - before) == ((), once)
        case.expect()
        case.residency.unload()
        case.expect()
        assert used() == before

    def test_never_a_success_where_nothing_is_on_the_device(self, case: Case) -> None:
        case.residency.load(CARD)
        case.module.to("cpu")
        case.residency.load(CARD)
        assert {parameter.device for parameter in case.module.parameters()} == {CARD}
        elsewhere = torch.device("hpu", 1)
        assert set(case.residency.load(elsewhere).skipped) == {*case.parameters, "positions"}

    def test_what_the_host_brought_itself_is_no_failure_and_stays_its_own(self, case: Case) -> None:
        case.module.a.data = case.module.a.data.to(CARD)
        assert case.residency.load(CARD).skipped == ()
        assert "a" not in case.residency.resident
        case.residency.unload()
        assert case.module.a.device == CARD

    def test_there_and_back_by_somebody_at_the_same_address_is_checked(self, case: Case) -> None:
        case.residency.load(CARD)
        place = case.module.a.data_ptr()
        changed = case.module.a.data.cpu() * 2
        # Whatever the allocator does: the same memory, written anew.
        case.module.a.data.copy_(changed)
        assert case.module.a.data_ptr() == place
        assert case.residency.unload().copied_back == ("a",)
        case.expect(a=changed)


class TestLeavingOneByOne:
    """While a LoRA is merged, another parameter takes each one's place."""

    def test_each_goes_home_and_its_memory_is_free_at_once(self, case: Case) -> None:
        case.residency.load(CARD)
        leave = case.residency.leaving(["a", "b"])
        for name in ("a", "b"):
            old = case.parameters[name]
            held = used()
            case.module.register_parameter(name, torch.nn.Parameter(old.detach() + 1, requires_grad=False))
            assert used() == held + old.nbytes
            leave(old)
            assert used() <= held, "and perhaps that of checksums that nobody needs any more"
            assert find(old.detach(), case.registry) is not None
            assert raw_bytes(old) == raw_bytes(case.tensors[name])
        leave(case.parameters["a"])  # at home already
        assert set(case.residency.resident) == {"c", "ram", "positions"}

    def test_what_somebody_changed_before_is_saved(self, case: Case) -> None:
        case.residency.load(CARD)
        with torch.no_grad():
            case.parameters["a"].zero_()
        leave = case.residency.leaving(["a", "b"])
        with full():
            leave(case.parameters["a"])
            leave(case.parameters["b"])
        case.expect(a=torch.zeros(50, 64, dtype=torch.bfloat16))
        assert find(case.parameters["a"].detach(), case.registry) is None

    def test_what_has_just_come_is_not_looked_through(self, case: Case) -> None:
        """Nobody can have written there; that nobody looks is seen by somebody who has."""
        case.residency.load(CARD)
        with torch.no_grad():
            case.parameters["a"].zero_()
            case.parameters["b"].zero_()
        leave = case.residency.leaving(["a", "b"], fresh=["a"])
        leave(case.parameters["a"])
        leave(case.parameters["b"])
        assert raw_bytes(case.parameters["a"]) == raw_bytes(case.tensors["a"])
        case.expect(b=torch.zeros_like(case.tensors["b"]))


def test_some_by_name_then_the_rest(case: Case) -> None:
    assert case.residency.load(CARD, {"a", "ram"}).bytes == case.tensors["a"].nbytes + case.ram.nbytes
    assert set(case.residency.resident) == {"a", "ram"}
    case.residency.load(CARD)
    assert case.residency.unload({"a"}).bytes == case.tensors["a"].nbytes
    assert "a" not in case.residency.resident
    assert find(case.parameters["a"], case.registry) is not None
    case.expect()
    case.residency.unload()
    case.at_home()


def test_tied_parameters_are_moved_once(tmp_path: Path) -> None:
    registry = Registry()
    views = registry.open(write_weights(tmp_path / "a.safetensors", {"a": torch.ones(6, 4)})).views()
    module = module_of({"one": views["a"]})
    module.register_parameter("two", module.one)
    residency = residency_of(module, registry)
    assert residency.load(CARD).bytes == 96
    assert module.one is module.two
    assert set(residency.resident) == {"one", "two"}
    with torch.no_grad():
        module.two[0, 0] = 5
    assert residency.unload({"two"}).copied_back == ("one", "two")
    assert module.one[0, 0] == 5


def test_a_write_on_the_device_behind_its_back_is_saved(case: Case) -> None:
    case.residency.load(CARD)
    case.parameters["b"].detach().view(-1)[7] = 3.0
    report = case.residency.unload()
    assert report.copied_back == ("b",)
    expected = case.tensors["b"].clone()
    expected.view(-1)[7] = 3.0
    case.expect(b=expected)
    assert find(case.parameters["b"], case.registry) is None
    assert find(case.parameters["a"], case.registry) is not None
    assert case.residency.load(CARD).by_backing[Backing.HOST] >= expected.nbytes
    case.expect(b=expected)
    assert case.residency.unload().copied_back == ()
    case.expect(b=expected)


def test_where_nobody_wants_it_a_change_on_the_device_is_not_looked_for(case: Case) -> None:
    before = used()
    case.residency.load(CARD)
    with torch.no_grad():
        case.parameters["b"][7, 3] = 2.0
    assert case.residency.unload(check=False).copied_back == ()
    case.expect()
    case.at_home()
    assert used() == before


def test_a_write_into_the_host_view_is_loaded_and_kept(case: Case) -> None:
    on_disk = case.path.read_bytes()
    case.parameters["a"].data[3, 3] = 9.0
    expected = case.tensors["a"].clone()
    expected[3, 3] = 9.0
    for _ in range(2):
        case.residency.load(CARD)
        case.expect(a=expected)
        assert case.residency.unload().copied_back == ()
        case.expect(a=expected)
    assert case.path.read_bytes() == on_disk


def test_data_that_somebody_pointed_elsewhere_is_left_to_the_host(case: Case) -> None:
    case.residency.load(CARD)
    other = torch.full_like(case.parameters["a"], 2.0)
    case.parameters["a"].data = other
    assert "a" not in case.residency.resident
    assert case.residency.unload().copied_back == ()
    assert case.parameters["a"].data_ptr() == other.data_ptr()  # the host's to move, with all it knows of it
    case.expect(a=other)


def test_a_new_parameter_from_somebody_unknown_is_left_to_the_host(case: Case) -> None:
    case.residency.load(CARD)
    new = torch.nn.Parameter(torch.zeros(50, 64), requires_grad=False)
    case.module.a = new
    case.residency.unload()
    assert case.module.a is new
    assert torch.equal(new, torch.zeros(50, 64))
    assert case.residency.resident == ()


def test_what_is_held_is_told_without_what_moved_or_came_home(case: Case) -> None:
    assert case.residency.held == frozenset()
    case.residency.load(CARD)
    ours = {name: id(parameter) for name, parameter in case.parameters.items()}
    assert case.residency.held >= set(ours.values())
    case.parameters["a"].data = case.parameters["a"].data.cpu()
    case.residency.unload({"b"})
    assert case.residency.held.isdisjoint({ours["a"], ours["b"]})
    assert ours["c"] in case.residency.held


def test_names_are_those_of_torch_however_modules_share(tmp_path: Path) -> None:
    shared = torch.nn.Linear(3, 4)
    shared.register_buffer("scale", torch.ones(2), persistent=False)
    module = torch.nn.Sequential(torch.nn.Sequential(shared, torch.nn.SiLU()), shared)
    module.register_parameter("none", None)
    module.register_buffer("nothing", None)
    module.add_module("gone", None)
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    entries = Roster(module, Registry()).entries()
    assert {name: id(entry.tensor) for entry in entries for name in entry.names} == {
        n: id(t) for n, t in named
    }
    assert [entry.names[0] for entry in entries] == ["0.0.weight", "0.0.bias", "0.0.scale"]


def test_where_bytes_were_before_a_load_is_told_with_its_files(case: Case) -> None:
    report = case.residency.load(CARD)
    assert report.files == {identity_of(case.path): case.path}
    assert report.source in ("page cache", "file")
    case.residency.unload()
    assert case.residency.load(CARD, {"ram"}).files == {}, "none of it was read"


def test_what_was_replaced_on_the_device_goes_home_too(case: Case) -> None:
    before = used()
    case.residency.load(CARD)
    case.module.a = torch.nn.Parameter(case.module.a.float(), requires_grad=False)
    case.residency.unload()
    assert find(case.parameters["a"], case.registry) is not None
    del case.module.a
    assert used() == before


def test_what_only_the_host_can_move_is_left_alone_and_named(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.module.register_parameter("ghost", torch.nn.Parameter(torch.empty(3, device="meta")))
    case.module.register_buffer("sparse", torch.eye(3).to_sparse())

    class Quantised(torch.nn.Parameter):
        pass

    case.module.register_parameter("packed", Quantised(torch.ones(3), requires_grad=False))
    report = case.residency.load(CARD)
    assert set(report.skipped) == {"ghost", "sparse", "packed"}
    case.residency.unload()
    assert case.residency.movable() == set(case.tensors) | {"ram", "positions"}
    assert case.residency.backings()[Backing.NONE] > 0


def test_backings_are_counted_in_bytes(case: Case) -> None:
    home = case.residency.backings()
    assert home[Backing.SPAN] == sum(t.nbytes for t in case.tensors.values())
    assert home[Backing.HOST] == case.ram.nbytes + 72
    case.residency.load(CARD)
    assert case.residency.backings() == home


@pytest.mark.parametrize("away", [False, True], ids=["at home", "on the device"])
def test_what_load_state_dict_writes_is_kept_and_the_file_is_not_touched(case: Case, away: bool) -> None:
    before = case.path.read_bytes()
    if away:
        case.residency.load(CARD)
    loaded = {
        **case.tensors,
        "a": torch.ones_like(case.tensors["a"]),
        "ram": case.ram,
        "positions": torch.arange(9),
    }
    case.module.load_state_dict(loaded)
    for _ in range(2):
        case.residency.load(CARD)
        case.expect(a=loaded["a"])
        case.residency.unload()
        case.expect(a=loaded["a"])
    assert case.path.read_bytes() == before


def test_a_module_is_not_kept_alive(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.residency.load(CARD)
    gone = weakref.ref(case.module)
    del case.module
    gc.collect()
    assert gone() is None
    assert case.residency.unload().bytes == 0


def test_ram_that_is_a_copy_of_the_file_is_let_go(tmp_path: Path) -> None:
    registry = Registry()
    stored = torch.randn(70, 9).half()
    view = registry.open(write_weights(tmp_path / "a.safetensors", {"a": stored})).views()["a"]
    module = module_of({"a": stored.clone(), "cast": stored.float(), "other": stored + 1})
    residency = residency_of(module, registry)
    assert residency.adopt({"a": view, "cast": view, "other": view}, least=2000) == ()
    assert residency.adopt({"a": view, "cast": view, "other": view}) == ("a",)
    assert find(module.a.detach(), registry) is not None
    assert (
        module.cast.dtype is torch.float32
    )  # what computes with it at home, or copies it, has the host's dtype
    residency.load(CARD)
    assert raw_bytes(module.a) == raw_bytes(stored)


def test_only_what_is_equal_bit_for_bit_is_proven(tmp_path: Path) -> None:
    registry = Registry()
    stored = torch.randn(7, 9).half()
    stored[3, 3] = float("nan")
    view = registry.open(write_weights(tmp_path / "a.safetensors", {"a": stored})).views()["a"]
    assert prove(view, stored.clone(), registry) is not None
    wrong = stored.clone()
    wrong[6, 8] += 1
    for other in (wrong, stored[:6], stored.t().contiguous().t(), stored.float(), stored.to(CARD)):
        assert prove(view, other, registry) is None
    assert prove(stored, stored.clone(), registry) is None


FAULTS = ["read", "copy", "allocation", "changed in place", "unreadable"]


@pytest.mark.parametrize("fault", FAULTS)
def test_after_a_fault_everything_is_as_it_was_and_a_second_load_works(tmp_path: Path, fault: str) -> None:
    lanes = {"copy": CountingLane(fail_copy_at=1), "allocation": CountingLane(fail_empty_at=2)}
    state = {"broken": True}

    class Source:
        def __init__(self, source: Any) -> None:
            self._source, self.path = source, source.path
            self.check, self.close = source.check, source.close

        def read_into(self, offset: int, target: memoryview) -> None:
            if state["broken"] and fault == "read":
                raise OSError(5, "Input/output error")
            self._source.read_into(offset, target)

    def wrap(source: Any) -> Any:
        if state["broken"] and fault == "unreadable":
            source.close()
            raise PermissionError(13, "Permission denied")
        return Source(source)

    registry = Registry()
    case = Case(tmp_path, opener=file_opener(registry, wrap), lane=lanes.get(fault))
    stat = case.path.stat()
    if fault == "changed in place":
        os.utime(case.path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    before = {name: parameter.data_ptr() for name, parameter in case.parameters.items()}
    with pytest.raises(TransferError):
        case.residency.load(CARD)
    case.expect()
    case.at_home()
    assert {name: parameter.data_ptr() for name, parameter in case.parameters.items()} == before
    state["broken"] = False
    if fault in lanes:
        lanes[fault]._fail_copy_at = lanes[fault]._fail_empty_at = -1
    if fault == "changed in place":  # a time put back proves nothing
        os.utime(case.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        with pytest.raises(TransferError):
            case.residency.load(CARD)
        return
    case.residency.load(CARD)
    case.expect()
    case.residency.unload()
    case.expect()


def test_a_file_replaced_by_rename_is_still_read_as_it_was(case: Case) -> None:
    write_weights(case.path.with_name("new"), {"a": torch.zeros(3)}).replace(case.path)
    case.residency.load(CARD)
    case.expect()
    case.residency.unload()
    case.expect()


def test_no_ram_to_save_changed_weights_leaves_them_on_the_device(tmp_path: Path) -> None:
    room = [False]

    def save(tensor: torch.Tensor) -> torch.Tensor:
        if not room[0]:
            raise MemoryError("no RAM")
        return tensor.clone()

    case = Case(tmp_path, save=save)
    case.residency.load(CARD)
    with torch.no_grad():
        case.parameters["a"].zero_()

    with pytest.raises(TransferError, match="cannot be saved"):
        case.residency.unload()
    assert "a" in case.residency.resident
    case.expect(a=torch.zeros(50, 64, dtype=torch.bfloat16))
    room[0] = True
    assert case.residency.unload().copied_back == ("a",)


def test_classify_names_the_backings(tmp_path: Path) -> None:
    registry = Registry()
    view = registry.open(write_weights(tmp_path / "a.safetensors", {"a": torch.ones(4, 4)})).views()["a"]
    assert classify(view, registry)[0] is Backing.SPAN
    assert classify(view.t(), registry)[0] is Backing.HOST
    assert classify(torch.ones(3), registry)[0] is Backing.HOST
    assert classify(torch.empty(3, device="meta"), registry) == (Backing.NONE, None)


@pytest.mark.parametrize("check", [True, False])
def test_a_file_is_summed_up_once_and_a_change_noticed_at_every_load(tmp_path: Path, check: bool) -> None:
    known, summed = KnownSums(), list[int]()

    class Counting(Signature):
        def __init__(self, *given: Any, **more: Any) -> None:
            super().__init__(*given, **more, known=known)

        def add(self, number: int, tensor: torch.Tensor) -> None:
            before = len(self._given)
            super().add(number, tensor)
            summed.append(len(self._given) - before)

    case = Case(tmp_path, signed=Counting)
    case.residency.load(CARD)
    assert summed
    assert not any(summed)
    assert case.residency.unload(check=check).copied_back == ()
    summed.clear()
    case.residency.load(CARD)
    assert sum(summed) == len(case.tensors), "what is of the file is known now"
    with torch.no_grad():
        case.parameters["b"][7, 3] = 2.0
    assert case.residency.unload().copied_back == ("b",)
