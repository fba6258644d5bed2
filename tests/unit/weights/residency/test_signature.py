"""The checksum notices what a plain sum misses, and takes nothing on the device when it looks again."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_speedup.weights.residency import signature as signature_module
from flux_speedup.weights.residency.known_sums import KnownSums
from flux_speedup.weights.residency.signature import Signature, factors, taken
from tests import second_device
from tests.second_device import counted, full, used
from tests.second_device.marks import needs_card
from tests.unit.weights.weight_files import DTYPES, random_tensor

CPU = torch.device("cpu")
ROW = 1 << 13  # words of 32 bits


def differs(before: torch.Tensor, after: torch.Tensor) -> bool:
    signature = Signature([before.nbytes], CPU)
    signature.add(0, before)
    return signature.changed({0: after}) == [0]


@settings(deadline=None, max_examples=150)
@given(size=st.integers(1, 100_000), data=st.data())
def test_one_changed_byte_is_noticed(size: int, data: st.DataObject) -> None:
    before = random_tensor((size,), torch.uint8, size)
    after = before.clone()
    after[data.draw(st.integers(0, size - 1))] ^= data.draw(st.integers(1, 255))
    assert differs(before, after)
    assert not differs(before, before.clone())


@settings(deadline=None, max_examples=100)
@given(size=st.integers(2, 50_000), data=st.data())
def test_two_swapped_elements_are_noticed(size: int, data: st.DataObject) -> None:
    before = random_tensor((size,), torch.int16, size)
    one, other = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    after = before.clone()
    after[one], after[other] = before[other], before[one]
    assert differs(before, after) == (not torch.equal(before, after))


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64])
def test_a_rectangle_whose_rows_and_columns_sum_up_as_before_is_noticed(dtype: torch.dtype) -> None:
    for columns in (64, 4096, 8192, 8191):
        before = torch.zeros(40, columns, dtype=dtype)
        for left, right in ((3, 50), (0, 63), (7, 8)):
            after = before.clone()
            after[2, left] += 7
            after[2, right] -= 7
            after[30, left] -= 7
            after[30, right] += 7
            assert differs(before, after)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_flipped_signs_are_noticed_wherever_they_are(dtype: torch.dtype) -> None:
    """The highest bit of a word is the one that sums lose first."""
    before = random_tensor((3, 2 * ROW), dtype, 1).nan_to_num() + 1
    columns = [0, 1, 2, 3, 7, ROW - 1, ROW, 2 * ROW - 1]
    for one in columns:
        for other in columns:
            after = before.clone()
            after[1, one] *= -1
            after[1, other] *= -1
            assert differs(before, after) == (one != other)
    assert differs(before, -before)


@pytest.mark.parametrize("shape", [(64, 64), (3, 100), (100, 3), (17, 31), (50, 4096)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float8_e4m3fn])
def test_moved_rows_and_columns_are_noticed(shape: tuple[int, int], dtype: torch.dtype) -> None:
    before = random_tensor(shape, dtype, 5)
    bits = before.view(torch.uint8)
    for after in (
        bits.flip(0),
        bits.flip(1),
        bits.roll(1, 0),
        bits.roll(8, 1),
        bits.reshape(-1).flip(0),
        bits * 0,
    ):
        assert differs(before, after.contiguous())


def test_rows_of_the_table_that_change_places() -> None:
    before = random_tensor((1200, ROW), torch.int32, 1)  # more than are summed up at once
    for one, other in ((0, 1199), (3, 4), (511, 512)):
        after = before.clone()
        after[one], after[other] = before[other], before[one]
        assert differs(before, after)
    assert not differs(before, before.clone())


def test_every_dtype_size_and_order_of_dimensions() -> None:
    tensors = [random_tensor((n, 3), dtype, n) for n, dtype in enumerate(DTYPES.values())]
    tensors += [torch.empty(0), torch.tensor(1.0), random_tensor((6, 8), torch.float32).t()]
    signature = Signature([tensor.nbytes for tensor in tensors], CPU)
    for number, tensor in enumerate(tensors):
        signature.add(number, tensor)
    numbered = dict(enumerate(tensors))
    assert signature.changed(numbered) == []
    for number, tensor in numbered.items():
        if tensor.numel():
            changed = tensor.contiguous().reshape(-1).clone()
            changed.view(torch.uint8)[-1] ^= 1
            assert signature.changed({**numbered, number: changed}) == [number]
    assert signature.changed({}) == []
    assert Signature([], CPU).changed({}) == []


def test_of_many_tensors_those_that_changed_are_told_whoever_else_is_asked_about() -> None:
    sizes = (ROW + 7, 513 * ROW, 5, 3 * ROW, 0, 1100 * ROW, 5)
    tensors = [random_tensor((size,), torch.int32, size) for size in sizes]
    signature = Signature([tensor.nbytes for tensor in tensors], CPU)
    for number, tensor in enumerate(tensors):
        signature.add(number, tensor)
    changed = {}
    for number in (0, 1, 2, 5, 6):
        changed[number] = tensors[number].clone()
        changed[number][-1] ^= 1 << 30
        assert signature.changed({number: tensors[number]}) == [], "of the others nothing is known yet"
    assert signature.changed(changed) == list(changed)
    assert signature.changed(dict(enumerate(tensors))) == []
    assert signature.changed({3: tensors[3], 5: changed[5]}) == [5]


@needs_card
def test_looking_again_takes_nothing_on_the_device_and_the_room_is_given_back() -> None:
    before = used()
    tensors = [random_tensor(shape, torch.bfloat16, n) for n, shape in enumerate(((3000, 64), (5,), (3, 3)))]
    there = [tensor.to(second_device.CARD) for tensor in tensors]
    signature = Signature([tensor.nbytes for tensor in there], second_device.CARD)
    for number, tensor in enumerate(there):
        signature.add(number, tensor)
    there[1][2] = 0
    allocations = counted()
    with full():
        assert signature.changed(dict(enumerate(there))) == [1]
    assert allocations.count == 0
    del there, tensor, signature
    assert used() == before


@needs_card
def test_what_checksums_take_is_known_also_of_one_that_shares_nothing() -> None:
    before, known = used(), taken(second_device.CARD)
    shares = Signature([1 << 20], second_device.CARD)
    alone = Signature([1 << 20], second_device.CARD, alone=True)
    assert taken(second_device.CARD) - known == pytest.approx(used() - before, abs=1 << 12)
    alone.join()
    assert taken(second_device.CARD) - known == pytest.approx(used() - before, abs=1 << 12)
    del shares


def test_what_was_summed_up_once_is_known_for_good() -> None:
    known, size = KnownSums(), 3 * ROW * 4 + 5
    data, other = (random_tensor((size,), torch.uint8, seed) for seed in (1, 2))
    first = Signature([size, size], CPU, keys=["file", None], known=known)
    first.add(0, data)
    first.add(1, other)
    assert first.changed({0: data, 1: other}) == []
    again = Signature([size, size], CPU, keys=["file", None], known=known)
    again._scratch = None  # type: ignore[assignment]
    again.add(0, data)  # looks at nothing
    again = Signature([size, size], CPU, keys=["file", None], known=known)
    again.add(0, data)
    again.add(1, other)
    for n in range(2):
        assert again.changed({0: data, 1: other}) == []
        now = [data.clone(), other.clone()]
        now[n][size - 1] ^= 1
        assert again.changed(dict(enumerate(now))) == [n]
        assert again.changed({n: now[n]}) == [n]
    assert again.changed({0: data}) == []


@pytest.mark.parametrize("asked", [False, True])
def test_what_is_known_is_what_came_not_what_became_of_it(asked: bool) -> None:
    known, data = KnownSums(), random_tensor((ROW,), torch.uint8, 1)
    first = Signature([ROW, ROW], CPU, keys=["file", "that never came"], known=known)
    first.add(0, data)
    if asked:
        assert first.changed({0: data ^ 1}) == [0]
    else:
        first.learn()
    again = Signature([ROW], CPU, keys=["file"], known=known)
    again._scratch = None  # type: ignore[assignment]
    again.add(0, data)
    assert known.of("that never came") is None


def test_the_oldest_known_ones_go_where_there_are_many() -> None:
    known, sums = KnownSums(limit=32), torch.zeros(2, dtype=torch.int64)
    for key in "ab":
        known.note(key, sums)
    assert known.of("a") is not None
    known.note("c", sums)
    known.note("c", sums)
    assert [known.of(key) is not None for key in "abc"] == [True, False, True]


@needs_card
def test_factors_are_the_same_wherever_they_are_made() -> None:
    signature = Signature([8], second_device.CARD)
    assert torch.equal(signature._scratch.factors.cpu(), factors())


def test_two_threads_do_not_sum_up_in_the_same_room_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most, original = list[int](), list[int](), signature_module._sum_into

    def slow(*given: Any) -> None:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.01)
        original(*given)
        inside.pop()

    monkeypatch.setattr(signature_module, "_sum_into", slow)
    data = [random_tensor((3 * ROW,), torch.uint8, seed) for seed in range(4)]
    signatures = [Signature([each.nbytes], CPU) for each in data]

    def work(number: int) -> list[int]:
        signatures[number].add(0, data[number])
        return signatures[number].changed({0: data[number]})

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [[]] * 4
    assert max(most) == 1


@needs_card
def test_on_another_stream_it_waits_for_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[tuple[str, str]] = []

    class Stream(str):
        def wait_stream(self, other: str) -> None:
            waited.append((self, other))

    now = [Stream("one")]
    module = SimpleNamespace(current_stream=lambda device: now[0])
    monkeypatch.setattr(torch, second_device.CARD.type, module, raising=False)
    monkeypatch.setattr(signature_module, "_STREAMS", (second_device.CARD.type,))
    data = random_tensor((3 * ROW,), torch.uint8, 1).to(second_device.CARD)
    signature = Signature([data.nbytes, data.nbytes], second_device.CARD)
    signature.add(0, data)
    signature.add(1, data)
    assert waited == []
    now[0] = Stream("other")
    assert signature.changed({0: data, 1: data}) == []
    assert waited == [("other", "one")]
