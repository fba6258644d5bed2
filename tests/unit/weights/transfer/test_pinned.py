"""Weights that stay in RAM for every step: pinned in one block of exact size, within a limit, let go with them."""

from __future__ import annotations

import gc

import pytest
import torch

from flux_speedup.weights.transfer.pinned import PinnedHomes
from flux_speedup.weights.transfer.registration import Refused
from tests.unit.weights.registering import ERROR, PLENTY, Machine, ledger
from tests.unit.weights.weight_files import random_tensor, raw_bytes


def homes(machine: Machine, total: int = PLENTY) -> PinnedHomes:
    return PinnedHomes(registrar=machine.registrar, held=ledger(total))


def weights(count: int = 4, rows: int = 100) -> list[torch.nn.Parameter]:
    dtypes = [torch.bfloat16, torch.float32, torch.float8_e4m3fn, torch.float16]
    made = [random_tensor((rows, 3 + n), dtypes[n % 4], n) for n in range(count)]
    return [torch.nn.Parameter(tensor, requires_grad=False) for tensor in made]


@pytest.mark.parametrize("inference", [False, True])
def test_they_keep_object_and_bytes_in_one_registered_block(inference: bool) -> None:
    machine = Machine(piece=1 << 12)
    pinned = homes(machine)
    with torch.inference_mode(inference):
        parameters = weights()
    before = [(id(p), p.is_inference(), raw_bytes(p)) for p in parameters]
    assert pinned.pin(parameters)
    assert [(id(p), p.is_inference(), raw_bytes(p)) for p in parameters] == before
    assert all(machine.has(p) for p in parameters)
    assert len({p.data_ptr() for p in parameters}) == len(parameters)
    # Each weight starts where every element type may; no block is rounded up to a power of two.
    assert all(p.data_ptr() % 64 == 0 for p in parameters)
    assert sum(p.nbytes for p in parameters) <= pinned.bytes < sum(p.nbytes + 64 for p in parameters)
    assert list(machine.registered.values()) == [pinned.bytes]  # no copy may cross into another registration


def test_what_is_pinned_is_not_pinned_again() -> None:
    machine = Machine()
    pinned = homes(machine)
    parameters = weights()
    assert pinned.pin(parameters)
    addresses = [p.data_ptr() for p in parameters]
    # The host makes new parameters of the same memory at every load.
    again = [torch.nn.Parameter(p.data, requires_grad=False) for p in parameters]
    assert pinned.pin(again)
    assert [p.data_ptr() for p in again] == addresses
    assert machine.calls == 1


def test_a_weight_with_two_names_takes_room_once() -> None:
    machine = Machine()
    pinned = homes(machine)
    (one,) = weights(1)
    other = torch.nn.Parameter(one.data, requires_grad=False)
    assert pinned.pin([one, other])
    assert one.data_ptr() == other.data_ptr()
    assert pinned.bytes < 2 * one.nbytes


def test_half_of_the_ram_at_most() -> None:
    machine = Machine()
    parameters = weights(4)
    room = sum(-(-p.nbytes // 64) * 64 for p in parameters[:2])
    pinned = homes(machine, total=2 * room)
    assert not pinned.pin(parameters)
    assert [machine.has(p) for p in parameters] == [True, True, False, False]
    assert pinned.bytes == room


def test_what_others_of_ours_hold_counts_as_taken() -> None:
    machine, held = Machine(), ledger(4000)
    held.note(2000)
    assert not PinnedHomes(registrar=machine.registrar, held=held).pin(weights(rows=1))
    assert (machine.calls, held.bytes) == (0, 2000)


def test_where_it_cannot_be_registered_nothing_changes() -> None:
    machine = Machine(fail_at=0)
    pinned = homes(machine)
    parameters = weights(rows=2000)
    before = [(p.data_ptr(), raw_bytes(p)) for p in parameters]
    with pytest.raises(Refused, match=f"error {ERROR}"):
        pinned.pin(parameters)
    assert [(p.data_ptr(), raw_bytes(p)) for p in parameters] == before
    assert machine.registered == {}
    assert pinned.bytes == 0


def test_a_block_is_let_go_with_its_last_weight() -> None:
    machine = Machine()
    pinned = homes(machine)
    parameters = weights()
    pinned.pin(parameters)
    last = parameters.pop()
    parameters.clear()
    gc.collect()
    assert machine.registered
    del last
    gc.collect()
    assert (machine.registered, pinned.bytes) == ({}, 0)


def test_what_is_not_plain_memory_is_left_to_the_host() -> None:
    machine = Machine()
    (plain,) = weights(1)
    turned = torch.nn.Parameter(torch.randn(4, 6).t(), requires_grad=False)
    strides = turned.stride()
    assert not homes(machine).pin([plain, turned])
    assert machine.has(plain)
    assert turned.stride() == strides
    assert homes(machine).pin([torch.empty(0)])
