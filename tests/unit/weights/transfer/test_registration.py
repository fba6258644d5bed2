"""Registered memory: unmapped only once it is not registered any more, whatever dies first."""

from __future__ import annotations

import ctypes
import gc
import mmap
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from flux_speedup.weights.transfer import cuda_errors, registration
from flux_speedup.weights.transfer.pinned import PinnedHomes
from flux_speedup.weights.transfer.registration import Refused, Registered, Registrar
from tests.unit.weights.registering import ERROR, Machine, ledger

SIZE = 1 << 16
needs_maps = pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/maps is Linux")


def is_mapped(address: int) -> bool:
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < end:
            return True
    return False


class Watching:
    """A registrar that notes, when memory is unregistered, whether it is still mapped."""

    def __init__(self, answer: int = 0) -> None:
        self.mapped: list[bool] = []
        self.registrar = Registrar(lambda address, length: 0, self._unregister, SIZE // 4)
        self._answer = answer

    def _unregister(self, address: int) -> int:
        self.mapped.append(is_mapped(address))
        return self._answer


def registered(registrar: Registrar, **more: Any) -> Registered:
    return Registered(mmap.mmap(-1, SIZE), registrar, **more).register()


@needs_maps
def test_it_is_unregistered_first_with_its_last_user() -> None:
    watching = Watching()
    memory = registered(watching.registrar)
    (piece,) = memory.bytes_at(5, 7)
    del memory
    gc.collect()
    assert watching.mapped == []
    piece.fill_(3)
    del piece
    gc.collect()
    assert watching.mapped == [True] * 4


@needs_maps
def test_pinned_weights_are_unregistered_before_they_are_unmapped() -> None:
    watching = Watching()
    homes = PinnedHomes(registrar=watching.registrar, held=ledger())
    weight = torch.nn.Parameter(torch.ones(SIZE), requires_grad=False)
    assert homes.pin([weight])
    del weight
    gc.collect()
    assert watching.mapped == [True]


@needs_maps
def test_in_a_cycle_too() -> None:
    watching = Watching()
    memory = registered(watching.registrar)
    holder: list[object] = [memory]
    holder.append(holder)
    memory.loop = holder  # type: ignore[attr-defined]
    del memory, holder
    gc.collect()
    assert watching.mapped == [True] * 4


@needs_maps
@pytest.mark.parametrize("fault", ["refused", "raised"])
def test_what_cannot_be_unregistered_is_never_unmapped(fault: str) -> None:
    def fails(address: int) -> int:
        if fault == "raised":
            raise RuntimeError("the driver is gone")
        return ERROR

    gone: list[int] = []
    memory = registered(Registrar(lambda a, n: 0, fails, SIZE // 2), gone=gone.append)
    memory.all_bytes()[:4] = 7
    address = memory.address
    del memory
    gc.collect()
    assert is_mapped(address)
    assert ctypes.string_at(address, 4) == b"\7\7\7\7"
    assert gone == []  # it is still held, and counts


def test_a_refusal_leaves_nothing_registered_and_no_room_taken() -> None:
    machine, gone = Machine(fail_at=2, piece=SIZE // 4), list[int]()
    memory = Registered(mmap.mmap(-1, SIZE), machine.registrar, gone.append)
    memory.register_piece(3)
    assert (memory.registered, memory.whole, memory.has([3]), memory.has([2, 3])) == (
        SIZE // 4,
        False,
        True,
        False,
    )
    with pytest.raises(Refused, match=f"error {ERROR}"):
        memory.register()
    assert (machine.bytes, memory.registered, gone) == (0, 0, [memory.address])
    memory.release()
    assert gone == [memory.address]


def test_it_is_cut_where_registrations_meet() -> None:
    machine = Machine(piece=100)
    memory = registered(machine.registrar)
    memory.all_bytes().copy_(torch.arange(SIZE) % 251)
    pieces = memory.bytes_at(50, 260)
    assert [piece.numel() for piece in pieces] == [50, 100, 100, 10]
    assert torch.equal(torch.cat(pieces), memory.all_bytes()[50:310])
    assert all(piece.untyped_storage().nbytes() == piece.numel() for piece in pieces)  # saved alone, if saved


AT_EXIT = """
import mmap, sys
from flux_speedup.weights.transfer.registration import Registered, Registrar

def unregister(address):
    print("unregistered while the process ends", file=sys.stderr)
    return 0

kept = Registered(mmap.mmap(-1, 1 << 16), Registrar(lambda a, n: 0, unregister)).register()
tensor = kept.all_bytes()
cycle = [kept]; cycle.append(cycle)
"""


def test_a_process_that_ends_says_nothing_and_unmaps_nothing() -> None:
    folder = Path(cuda_errors.__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("registrar", [registration.CUDA, registration.CUDA_WRITABLE])
def test_an_error_is_taken_off_before_anybody_else_sees_it(
    registrar: Registrar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a card: the runtime remembers an error for the thread until a launch has told of it."""
    remembered = [0]

    def refuses(*_: int) -> int:
        remembered[0] = ERROR
        return ERROR

    def sleep(_: int) -> None:  # a launch, which tells what the thread was left with
        error, remembered[0] = remembered[0], 0
        if error:
            raise RuntimeError("operation not supported")

    runtime = SimpleNamespace(cudaHostRegister=refuses, cudaHostUnregister=refuses)
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(_sleep=sleep, cudart=lambda: runtime))
    assert registrar.register(1 << 20, 1 << 60) == ERROR
    sleep(0)  # whoever launches next
    assert not registrar.lets_go(1 << 20)
    sleep(0)
