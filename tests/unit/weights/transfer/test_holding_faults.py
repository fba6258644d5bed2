"""Every call of holding memory that can fail, at every position: nothing changed, nothing left behind."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.transfer import pinned, registration
from flux_speedup.weights.transfer.direct import Direct
from flux_speedup.weights.transfer.pinned import PinnedHomes
from flux_speedup.weights.transfer.registration import Refused
from tests.unit.weights.registering import PIECE, Machine, ledger
from tests.unit.weights.weight_files import random_tensor, raw_bytes, write_weights

FAULTS = [
    OSError(errno.ENOMEM, "no memory"),
    OSError(errno.EMFILE, "too many files"),
    MemoryError(),
    RuntimeError("CUDA error"),
    KeyboardInterrupt(),
]
POSITIONS = range(3)


class Failing:
    """A call that fails at its n-th time, and what it does otherwise."""

    def __init__(self, original: Callable[..., Any], at: int, fault: BaseException) -> None:
        self._original, self._left, self._fault = original, at, fault
        self.failed = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._left -= 1
        if self._left == -1:
            self.failed = True
            raise type(self._fault)(
                *self._fault.args
            )  # anew: its traceback holds every frame it went through
        return self._original(*args, **kwargs)


def machine_of(
    where: str, at: int, fault: BaseException, patched: pytest.MonkeyPatch
) -> tuple[Machine, Failing]:
    """A machine that fails there."""
    machine = Machine()
    if where == "register":
        failing = Failing(machine.registrar.register, at, fault)
        object.__setattr__(machine.registrar, "register", failing)
        return machine, failing
    owner, name = {
        "mmap": (mmap, "mmap"),
        "address": (np, "frombuffer"),
        "dup": (os, "dup"),
        "tensor": (torch, "from_numpy"),
        "finalizer": (weakref, "finalize"),
        "placing": (pinned, "set_data"),
        "hold": (registration, "_hold"),
    }[where]
    failing = Failing(getattr(owner, name), at, fault)
    patched.setattr(owner, name, failing)
    return machine, failing


def names(fault: BaseException) -> str:
    return type(fault).__name__ + str(getattr(fault, "errno", ""))


@pytest.mark.parametrize("fault", FAULTS, ids=names)
@pytest.mark.parametrize("where", ["mmap", "address", "hold", "register", "tensor", "placing"])
def test_pinning(where: str, fault: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    hit = 0
    for at in POSITIONS:
        held = ledger()
        parameters = [torch.nn.Parameter(random_tensor((40, 9), torch.float16, n), False) for n in range(3)]
        before = [(p.data_ptr(), raw_bytes(p)) for p in parameters]
        with monkeypatch.context() as patched:
            machine, failing = machine_of(where, at, fault, patched)
            homes = PinnedHomes(registrar=machine.registrar, held=held)
            try:
                homes.pin(parameters)
            except (Refused, KeyboardInterrupt):
                assert failing.failed
        gc.collect()
        assert [raw_bytes(p) for p in parameters] == [content for _, content in before]
        if failing.failed:
            hit += 1
            assert [p.data_ptr() for p in parameters] == [address for address, _ in before]
            assert (machine.bytes, homes.bytes, held.bytes) == (0, 0, 0)
            assert homes.pin(parameters)  # and it can be had again
        parameters.clear()
        assert (machine.bytes, homes.bytes, held.bytes) == (0, 0, 0)
    assert hit


@pytest.mark.skipif(sys.platform != "linux", reason="files are registered on Linux only")
@pytest.mark.parametrize("fault", FAULTS, ids=names)
@pytest.mark.parametrize("where", ["dup", "mmap", "address", "hold", "finalizer", "register"])
def test_holding_a_file(
    where: str, fault: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry()
    path = write_weights(tmp_path / "a.safetensors", {"a": random_tensor((PIECE, 2), torch.float16, 1)})
    mapping = registry.open(path)
    gc.collect()
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    hit = 0
    for at in POSITIONS:
        held = ledger()
        with monkeypatch.context() as patched:
            machine, failing = machine_of(where, at, fault, patched)
            direct = Direct(registry, registrar=machine.registrar, held=held)
            try:
                done = direct.hold(mapping)
            except KeyboardInterrupt:
                done = False
        gc.collect()
        if failing.failed:
            hit += 1
            assert not done
            assert direct.source(mapping.identity) is None
        assert held.bytes in (
            (0,) if failing.failed and not isinstance(fault, KeyboardInterrupt) else (0, path.stat().st_size)
        )
        direct.release_all()
        assert (machine.bytes, direct.bytes, held.bytes) == (0, 0, 0)
        if failing.failed and where == "register" and isinstance(fault, KeyboardInterrupt):
            descriptors += 1  # nobody knows whether it was registered: it stays mapped for good
        assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    assert hit
