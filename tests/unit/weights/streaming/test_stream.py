"""Streams on a device whose queues run late: every kernel sees the weights it was launched for."""

from __future__ import annotations

import copy
import gc
import pickle
import random
import threading
import time
import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.streaming.staged import Staged
from flux_speedup.weights.streaming.stream import Stream
from flux_speedup.weights.streaming.supply import Load, Straight
from flux_speedup.weights.streaming.timeline import PlainTimeline
from flux_speedup.weights.streaming.unit import InPackedForm, Pieces, Slot, Unit, home_bytes
from flux_speedup.weights.transfer.reader import MemorySource
from flux_speedup.weights.transfer.staging import Arena
from tests.unit.weights.streaming.simulated import Device, Leaf, Memory


class InFewerBytes:
    """Stands for a packed form: three quarters of the bytes, the other way up; the last quarter is known."""

    is_there = False

    def __init__(self, slot: Slot) -> None:
        self.raw = home_bytes(slot)[0]
        self.form = self
        self.length = self.raw.numel() * 3 // 4

    def pieces(self) -> InPackedForm:
        found = InPackedForm((~self.raw[: self.length],))
        found.packed, found.straight = self, True  # type: ignore[assignment]
        return found

    def unpack_now(self, memory: torch.Tensor, home: torch.Tensor) -> None:
        body = ~memory[memory.numel() - self.length :]
        memory[: self.length] = body
        memory[self.length :] = home[self.length :]


def sources(slot: Slot) -> Sequence[torch.Tensor]:
    """Of what is larger in fewer bytes; of the rest as it is."""
    return InFewerBytes(slot).pieces() if slot.home.nbytes > 6 else home_bytes(slot)


class Slow(MemorySource):
    """What is read is not queued yet when somebody asks for what comes next."""

    def read_into(self, offset: int, target: memoryview) -> None:
        time.sleep(0.001)
        super().read_into(offset, target)


def through_slots(device: Device) -> Staged:
    device.pinned = False  # ordinary memory stands for it
    return Staged(device, Registry(), "test", 2, arena=Arena(limit=1 << 12, chunk=1 << 10), in_ram=Slow)


class Streamed:
    """Leaves of a model, streamed on a simulated device."""

    def __init__(self, sizes: list[int], ring: int, seed: int = 0, pieces: Pieces = sources) -> None:
        self.device = Device(seed)
        self.leaves = [Leaf(self.device, size, number) for number, size in enumerate(sizes)]
        self.units = {leaf: Unit(number, f"leaf {number}") for number, leaf in enumerate(self.leaves)}
        largest = max(-(-4 * size // 256) * 256 + 256 for size in sizes)
        self.stream = Stream(self.units, self.device, self.device, max(ring, largest), pieces=pieces)
        self.stream.set_streamed(self.units)
        self.refused: set[int] = set()
        self.homes = [leaf.weight.data_ptr() for leaf in self.leaves]

    def call(self, number: int) -> None:
        self.leaves[number]()
        self.device.let_time_pass()

    def come(self, numbers: list[int]) -> None:
        """These stay once they have arrived."""

        def arrived(unit: Unit, views: Sequence[torch.Tensor]) -> None:
            if unit.number in self.refused:
                raise RuntimeError("not wanted")
            for slot, view in zip(unit.slots, views, strict=True):
                slot.parameter.data = view

        self.stream.come(numbers, arrived)

    def go_home(self) -> None:
        """What has come to stay leaves again."""
        for number, leaf in enumerate(self.leaves):
            if number not in self.stream.streamed:
                leaf.weight.data, leaf.bias.data = (true.clone() for true in leaf.truth)

    def check(self) -> None:
        self.device.run_all()
        assert sum(leaf.wrong for leaf in self.leaves) == 0
        for leaf in self.leaves:
            assert torch.equal(leaf.weight.data, leaf.truth[0])
            assert torch.equal(leaf.bias.data, leaf.truth[1])


SIZES = st.lists(st.integers(1, 400), min_size=1, max_size=10)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["round", "round", "call", "raise", "replace", "stay", "fail copies", "come", "refuse", "rest"]
        ),
        st.integers(0, 9),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(SIZES, st.integers(256, 6000), STEPS, st.integers(0, 1000), st.sampled_from([home_bytes, sources]))
@example([40] * 6, 600, [("round", 0), ("come", 5), ("round", 0), ("round", 0)], 0, sources)
@example([1, 129], 256, [("round", 0)] * 4 + [("call", 0), ("fail copies", 1), ("round", 0)], 0, sources)
def test_every_kernel_sees_its_weights(
    sizes: list[int], ring: int, steps: list[tuple[str, int]], seed: int, pieces: Pieces
) -> None:
    run = Streamed(sizes, ring, seed, pieces)
    for at, (step, number) in enumerate(steps):
        number %= len(sizes)
        leaf = run.leaves[number]
        run.device.fail_copies = False
        if step == "round":
            for each in range(len(sizes)):
                run.call(each)
        elif step == "raise":
            leaf.fails = True
            with pytest.raises(RuntimeError):
                run.call(number)
            leaf.fails = False
        elif step == "replace":
            leaf.replace(1000 + at)
        elif step in ("come", "refuse"):
            run.refused = {number} if step == "refuse" else set()
            run.come(list(range(number + 1)))
        elif step == "rest":
            run.stream.rest()
        elif step == "stay":
            run.go_home()
            run.stream.set_streamed({leaf: unit for leaf, unit in run.units.items() if unit.number != number})
        else:
            run.device.fail_copies = step == "fail copies"
            run.call(number)
        run.device.let_time_pass()
    run.check()
    run.stream.close()
    run.check()
    assert not any(leaf._forward_pre_hooks or leaf._forward_hooks for leaf in run.leaves)


def test_once_the_order_is_known_everything_is_there_in_time() -> None:
    run = Streamed([100] * 12, 3 * 1024)
    order = random.Random(1).sample(range(12), 12)
    for _ in range(2):
        for number in order:
            run.call(number)
    run.call(order[0])
    unexpected = run.stream.figures.unexpected
    for _ in range(3):
        for number in (*order[1:], order[0]):
            run.call(number)
    assert run.stream.figures.unexpected == unexpected
    run.check()


def test_in_the_first_round_nothing_is_brought_twice_for_running_a_little_before_its_turn() -> None:
    """As in Flux: modules have another order than the one in which they run, block by block."""
    run = Streamed([100] * 60, 9 * 512)
    for block in range(0, 60, 5):
        for number in (0, 3, 1, 4, 2):
            run.call(block + number)
    assert run.stream.figures.units <= 60 + 9
    run.check()


def test_what_comes_to_stay_is_copied_once_more_and_has_no_hook_then() -> None:
    run = Streamed([100] * 8, 2 * 1024)
    run.come([1, 2, 5, 7])
    run.refused = {2}
    for _ in range(2):
        for number in range(8):
            run.call(number)
    assert run.stream.streamed == {0, 2, 3, 4, 6}
    assert run.stream.coming == frozenset()
    assert [not leaf._forward_pre_hooks for leaf in run.leaves] == [
        number in (1, 5, 7) for number in range(8)
    ]
    brought, unexpected = run.stream.figures.units, run.stream.figures.unexpected
    for _ in range(3):
        for number in range(8):
            run.call(number)
    assert run.stream.figures.units - brought == 3 * 5
    assert run.stream.figures.unexpected == unexpected
    run.check()


def test_once_more_units_stream_each_is_brought_once_a_round() -> None:
    run = Streamed([100] * 40, 8 * 1024)
    run.stream.set_streamed({leaf: unit for leaf, unit in run.units.items() if unit.number % 3 == 0})
    for _ in range(4):
        for number in range(40):
            run.call(number)
    run.stream.set_streamed(run.units)
    for _ in range(3):
        before = run.stream.figures.units
        unexpected = run.stream.figures.unexpected
        for number in range(40):
            run.call(number)
        # Besides, what the ring has of the next round.
        assert run.stream.figures.units - before <= 40 + 16
        assert run.stream.figures.unexpected - unexpected <= 1
    run.check()


@pytest.mark.parametrize("staged", [False, True])
def test_what_is_made_for_nobody_does_not_spoil_what_comes_there_next(staged: bool) -> None:
    for seed in range(15 if staged else 40):
        chance = random.Random(seed)
        run = Streamed([100] * 8, 3 * 1024, seed)
        if staged:
            run.device.through = through_slots(run.device)
        for _ in range(4):
            for number in chance.sample(range(8), 8):
                run.call(number)
        run.check()
        run.stream.close()


@pytest.mark.parametrize("pieces", [home_bytes, sources])
@pytest.mark.parametrize("go", ["come", "rest", "close"])
def test_memory_is_let_go_behind_what_is_brought_there(go: str, pieces: Pieces) -> None:
    for seed in range(20):
        run = Streamed([100] * 4, 2 * 1024, seed, pieces)
        run.come([1, 2, 3])
        run.leaves[0]()
        assert run.stream.coming == {1, 2, 3}
        run.stream.come([2]) if go == "come" else getattr(run.stream, go)()
        over: list[bool] = []
        own = [stream for stream in run.device.streams if stream is not run.device._computing]
        run.device.compute(lambda own=own, over=over: over.append(all(each.idle for each in own)))
        run.device.run_all()
        assert over == [True]
        run.check()


@pytest.mark.parametrize("staged", [False, True])
def test_of_what_fails_half_way_nothing_is_under_way(staged: bool) -> None:
    """Its memory is let go."""

    def fails() -> None:
        raise RuntimeError("no kernel today")

    device = Device()
    target, source = torch.zeros(300, dtype=torch.uint8), torch.ones(300, dtype=torch.uint8)
    copies: Any = [(Memory(device, target), source)]
    supply = through_slots(device) if staged else Straight(device, "test")
    made = [partial(device.do, lambda: target.add_(1)), fails]
    with pytest.raises(RuntimeError, match="no kernel"):
        supply.bring(Load(copies, made=made), ())()
    assert int(target.sum()) == 600
    supply.close()


def test_what_fails_keeps_nothing_back_that_is_queued_with_it() -> None:
    def fails() -> None:
        raise RuntimeError("no kernel today")

    supply = Straight(PlainTimeline(torch.device("cpu")), "test")
    targets = [torch.zeros(3, dtype=torch.uint8) for _ in range(3)]
    loads = [Load([(target, torch.ones_like(target))], made=[]) for target in targets]
    loads[1] = Load(loads[1].copies, made=[fails])
    arrivals = [supply.bring(load, ()) for load in loads]
    supply.go()
    for arrival in arrivals[::2]:
        arrival()
    with pytest.raises(RuntimeError, match="no kernel"):
        arrivals[1]()
    assert all(target.all() for target in targets)


@pytest.mark.parametrize("go", ["rest", "close"])
def test_no_memory_of_the_ring_is_held_by_what_has_run(go: str) -> None:
    run = Streamed([100] * 40, 12 * 1024)
    for number in range(40):
        run.call(number)
        if run.stream._in_use.over:
            break
    run.check()
    places = [weakref.ref(place) for place in run.stream._bringing._ring._places]
    assert places
    getattr(run.stream, go)()
    run.device.run_all()
    gc.collect()
    assert not [one for one in places if one() is not None]


def test_without_memory_of_its_own_it_streams_on() -> None:
    run = Streamed([100] * 4, 2 * 1024)
    run.come([1, 2, 3])
    run.device.room = 2 * 1024 + 500
    for _ in range(2):
        for number in range(4):
            run.call(number)
    assert run.stream.streamed == {0, 2, 3}
    run.check()


def test_what_fits_the_ring_is_copied_once() -> None:
    run = Streamed([10] * 4, 10_000)
    for _ in range(5):
        for number in range(4):
            run.call(number)
    assert run.stream.figures.units == 4
    run.check()


def test_weights_are_at_home_between_calls_and_not_inside() -> None:
    run = Streamed([50, 50], 4096)
    inside = []
    run.leaves[0].register_forward_hook(lambda leaf, args, result: inside.append(leaf.weight.data_ptr()))
    run.leaves[0].register_forward_pre_hook(lambda leaf, args: inside.append(leaf.weight.data_ptr()))
    run.call(0)
    assert run.leaves[0].weight.data_ptr() == run.homes[0]
    assert inside[0] != run.homes[0]


def test_a_call_from_inside_the_same_module_and_from_other_threads() -> None:
    run = Streamed([50] * 6, 2048)
    again = run.leaves[2].register_forward_pre_hook(lambda leaf, args: leaf.forward())
    threads = [threading.Thread(target=run.call, args=(number,)) for number in (0, 1, 2, 2, 3, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    again.remove()
    run.check()


@pytest.mark.parametrize("ring", [1024, 4096, 1 << 20])
def test_each_stream_that_computes_waits_for_its_weights_and_is_waited_for(ring: int) -> None:
    for seed in range(30):
        run, chance = Streamed([100] * 12, ring, seed), random.Random(seed)
        streams = [run.device.Stream(run.device.device), run.device._computing]
        runs: set[int] = set()

        def again(leaf: Any, args: object, run: Streamed = run, on: Any = streams, runs: Any = runs) -> None:
            """The module is run inside itself, on both streams."""
            for stream in on if not runs else ():
                runs.add(1)
                with run.device.stream(stream):
                    leaf()
            runs.clear()

        run.leaves[4].register_forward_pre_hook(again)
        for number in [*range(12)] * 6:
            with run.device.stream(chance.choice(streams) if chance.random() < 0.3 else streams[1]):
                run.call(number)
        run.check()


def test_of_two_calls_at_once_the_last_one_to_end_is_waited_for_where_it_computes() -> None:
    for seed in range(30):
        run = Streamed([100] * 3, 1024, seed)
        first, last = run.device._computing, run.device.Stream(run.device.device)
        leaf, unit = run.leaves[0], run.units[run.leaves[0]]
        for stream in (first, last):  # two threads
            with run.device.stream(stream):
                run.stream._before(unit, leaf)
        for stream in (first, last):
            with run.device.stream(stream):
                leaf.forward()
                run.stream._after(unit)
        for number in (1, 2, 1, 2):
            run.call(number)
        run.check()


def test_a_copy_of_the_model_is_on_its_own() -> None:
    run = Streamed([50, 60], 4096)
    model = torch.nn.ModuleList([torch.nn.Linear(4, 4, bias=False).requires_grad_(False) for _ in range(3)])
    units = {leaf: Unit(number, str(number)) for number, leaf in enumerate(model)}
    timeline = PlainTimeline(torch.device("cpu"))
    stream = Stream(units, timeline, Straight(timeline, "plain"), 4096)
    stream.set_streamed(units)
    for other in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        [copy.copy(leaf) for leaf in model],
    ):
        brought = stream.figures.units
        for leaf, same in zip(model, other, strict=True):
            assert torch.equal(same(torch.eye(4)), leaf.weight.T)
        assert stream.figures.units == brought
    run.check()


def test_a_parameter_that_its_module_replaces_while_it_runs_is_the_modules() -> None:
    run = Streamed([50, 60], 4096)
    new = torch.nn.Parameter(torch.ones(50), requires_grad=False)

    def replace(leaf: torch.nn.Module, _: object) -> None:
        leaf.weight = new

    handle = run.leaves[0].register_forward_pre_hook(replace)
    run.leaves[0].truth[0] = torch.ones(50)
    run.call(0)
    handle.remove()
    run.call(0)
    assert run.leaves[0].weight is new
    run.check()


def test_casts_are_made_on_the_device() -> None:
    leaf = torch.nn.Linear(8, 8).requires_grad_(False).to(torch.bfloat16)
    units = {leaf: Unit(0, "leaf")}
    timeline = PlainTimeline(torch.device("cpu"))
    stream = Stream(units, timeline, Straight(timeline, "plain"), 8192, dtype_of=lambda tensor: torch.float16)
    stream.set_streamed(units)
    x = torch.randn(2, 8).half()
    expected = torch.nn.functional.linear(x, leaf.weight.half(), leaf.bias.half())
    assert torch.equal(leaf(x), expected)
    assert leaf.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float8_e4m3fn])
@pytest.mark.parametrize("made", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("run", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_every_dtype_and_mode(dtype: torch.dtype, made: type, run: type) -> None:
    with made():
        leaf = torch.nn.Linear(16, 16, bias=False).requires_grad_(False)
        leaf.weight = torch.nn.Parameter(torch.randn(16, 16).to(dtype), requires_grad=False)
    before = leaf.weight.detach().view(torch.uint8).clone()
    seen = []
    leaf.forward = lambda x: seen.append(leaf.weight.view(torch.uint8).clone())
    units = {leaf: Unit(0, "leaf")}
    timeline = PlainTimeline(torch.device("cpu"))
    stream = Stream(units, timeline, Straight(timeline, "plain"), 8192)
    with run():
        stream.set_streamed(units)
        leaf(None)
        leaf(None)
    assert all(torch.equal(one, before) for one in seen)
    assert torch.equal(leaf.weight.detach().view(torch.uint8), before)


def test_a_lora_is_merged_as_a_weight_arrives_and_never_left_out() -> None:
    leaf = torch.nn.Linear(8, 8, bias=False).requires_grad_(False)
    unit = Unit(0, "leaf")
    timeline = PlainTimeline(torch.device("cpu"))
    stream = Stream({leaf: unit}, timeline, Straight(timeline, "plain"), 8192)
    stream.set_streamed({leaf: unit})
    home, clean = leaf.weight.data_ptr(), leaf.weight.detach().clone()
    unit.merges = {"weight": lambda weight: weight + 1}
    eye = torch.eye(8)
    for _ in range(2):
        assert torch.equal(leaf(eye), (clean + 1).T)
        assert leaf.weight.data_ptr() == home
        assert torch.equal(leaf.weight, clean)

    def fails(_: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no room")

    unit.merges = {"weight": fails}
    with pytest.raises(torch.OutOfMemoryError):
        leaf(eye)
    assert leaf.weight.data_ptr() == home
    unit.merges = {}
    assert torch.equal(leaf(eye), clean.T)


def test_what_cannot_be_brought_ahead_is_no_error_of_what_runs_now_with_its_lora() -> None:
    first, then = leaves = [torch.nn.Linear(8, 8, bias=False).requires_grad_(False) for _ in range(2)]
    units = {leaf: Unit(number, f"leaf {number}") for number, leaf in enumerate(leaves)}
    timeline = PlainTimeline(torch.device("cpu"))

    def pieces(slot: Slot) -> Sequence[torch.Tensor]:
        if slot.parameter is then.weight:
            raise RuntimeError("it cannot be read")
        return home_bytes(slot)

    stream = Stream(units, timeline, Straight(timeline, "plain"), 8192, pieces=pieces)
    stream.set_streamed(units)
    units[first].merges = {"weight": lambda weight: weight + 1}
    assert torch.equal(first(torch.eye(8)), (first.weight + 1).T)
    assert torch.equal(then(torch.eye(8)), then.weight.T)
    stream.close()


def test_a_weight_without_elements_comes_home_as_the_others_do() -> None:
    leaf = torch.nn.Linear(8, 8).requires_grad_(False)
    leaf.bias = torch.nn.Parameter(torch.zeros(8, 0), requires_grad=False)
    leaf.forward = lambda x: x  # type: ignore[method-assign]
    home = leaf.bias.data.untyped_storage()
    unit, timeline = Unit(0, "leaf"), PlainTimeline(torch.device("cpu"))
    stream = Stream({leaf: unit}, timeline, Straight(timeline, "plain"), 8192)
    stream.set_streamed({leaf: unit})
    leaf(torch.eye(8))
    assert stream.figures.units == 1
    assert leaf.bias.data.untyped_storage()._cdata == home._cdata
    stream.close()


def test_a_replaced_parameter_is_streamed_too() -> None:
    run = Streamed([50, 60], 4096)
    inside: list[int] = []
    run.leaves[0].register_forward_pre_hook(lambda leaf, args: inside.append(leaf.weight.data_ptr()))
    run.call(0)
    run.leaves[0].replace(5)
    run.call(0)
    assert inside[1] not in (run.homes[0], run.leaves[0].weight.data_ptr())
    run.check()


@pytest.mark.parametrize("made", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("run", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("room", [1 << 20, 256])
def test_layers_that_ask_for_a_version_run_in_every_mode(made: type, run: type, room: int) -> None:
    with made():
        layer = torch.nn.Conv2d(8, 8, 3).requires_grad_(False)
    x = torch.randn(1, 8, 9, 9)
    with run():
        expected = layer(x)
    unit = Unit(0, "layer")
    timeline = PlainTimeline(torch.device("cpu"))
    stream = Stream({layer: unit}, timeline, Straight(timeline, "plain"), room)
    stream.set_streamed({layer: unit})
    with run():
        assert torch.equal(layer(x), expected)
    assert stream.figures.unexpected == 1
