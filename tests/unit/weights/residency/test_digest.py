"""The checksum notices what a plain sum misses, and does not depend on the company a tensor is in."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_speedup.weights.files.header import DTYPES
from flux_speedup.weights.residency.digest import changed, checksums
from tests.unit.weights.weight_files import random_tensor


def differs(before: torch.Tensor, after: torch.Tensor) -> bool:
    return changed(checksums([before]), checksums([after]))[0]


@settings(deadline=None, max_examples=150)
@given(size=st.integers(1, 5000), data=st.data())
def test_one_changed_byte_is_noticed(size: int, data: st.DataObject) -> None:
    before = random_tensor((size,), torch.uint8, size)
    after = before.clone()
    after[data.draw(st.integers(0, size - 1))] ^= data.draw(st.integers(1, 255))
    assert differs(before, after)
    assert not differs(before, before.clone())


@settings(deadline=None, max_examples=100)
@given(size=st.integers(2, 3000), data=st.data())
def test_two_swapped_elements_are_noticed(size: int, data: st.DataObject) -> None:
    before = random_tensor((size,), torch.int16, size)
    one, other = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    after = before.clone()
    after[one], after[other] = before[other], before[one]
    assert differs(before, after) == (not torch.equal(before, after))


@pytest.mark.parametrize("shape", [(64, 64), (3, 100), (100, 3), (17, 31)])
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


def test_large_tables_where_rows_and_columns_are_both_many() -> None:
    before = random_tensor((1024, 2048), torch.int32, 1)
    for one, other in (((0, 0), (1023, 2047)), ((5, 3), (5, 2045)), ((7, 9), (900, 9))):
        after = before.clone()
        after[one], after[other] = before[other], before[one]
        assert differs(before, after)


def test_every_dtype_size_and_alignment() -> None:
    tensors = [random_tensor((n, 3), dtype, n) for n, dtype in enumerate(DTYPES.values())]
    tensors += [torch.empty(0), torch.tensor(1.0), random_tensor((101,), torch.uint8)[3:]]
    together = checksums(tensors)
    assert together.dtype == torch.int64
    alone = torch.cat([checksums([tensor.clone()]) for tensor in tensors])
    assert changed(together, alone) == [False] * len(tensors)
    assert checksums([]).numel() == 0


def test_strides_do_not_count() -> None:
    tensor = random_tensor((6, 8), torch.float32)
    assert not differs(tensor, tensor.t().contiguous().t())
