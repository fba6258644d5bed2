"""The bus is never without work while weights go straight, and nobody looks at what has not come by then."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flux_speedup.weights.packed.decoding import PLAIN
from flux_speedup.weights.packed.form import Form
from flux_speedup.weights.residency.residency import Residency
from flux_speedup.weights.residency.signature import Signature
from flux_speedup.weights.transfer import destinations
from flux_speedup.weights.transfer.direct import Direct
from flux_speedup.weights.transfer.lane import Fence
from flux_speedup.weights.transfer.run import AHEAD, QUEUED, Stopped
from flux_speedup.weights.transfer.staging import Arena
from flux_speedup.weights.transfer.transfer import Underway, transfer
from flux_speedup.weights.transfer.turns import TURNS
from tests.unit.weights.packed.packing_of import Loading, pack, room_in, weights
from tests.unit.weights.registering import Machine, ledger
from tests.unit.weights.weight_files import CARD, CountingLane, file_opener, module_of, raw_bytes
from tests.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="files are registered on Linux only")
COUNT, MOST = AHEAD + 8, 8
"""Weights; copies into those of one batch."""


@dataclass
class Point:
    """After so many copies."""

    copies: int = 0
    order: list[str] = field(default_factory=list)

    def synchronize(self) -> None:
        self.order.append("waited")

    def query(self) -> bool:
        return True


class Bus(CountingLane):
    """Knows which copies are waited for where device work is queued, and in which order everything was."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []
        self._targets: list[range] = []
        self._done: int | None = None

    def publish(self) -> None:
        self.order.append("batch")

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        self._targets.append(_memory(target))
        super().copy(target, source)

    def fence(self, again: Fence | None) -> Fence | None:
        return Point(len(self._targets), self.order)

    def behind(self, after: Fence | None = None) -> AbstractContextManager[object]:
        if after is None:  # once all is over
            return contextlib.nullcontext()
        assert isinstance(after, Point)
        return self._behind(after.copies)

    def reads(self, tensor: torch.Tensor) -> None:
        """Device work that reads this memory is queued: it waits for all copies into it, and for no later batch."""
        own = _memory(tensor)
        into = [n for n, each in enumerate(self._targets) if each.start < own.stop and own.start < each.stop]
        assert into, "nothing was copied there"
        assert self._done is not None, "it runs beside its copies"
        assert into[-1] < self._done, "it does not wait for its copies"
        assert self._done <= into[-1] + MOST, "it waits for later batches, too"

    @contextlib.contextmanager
    def _behind(self, copies: int) -> Iterator[None]:
        self.order.append("told")
        self._done = copies
        yield
        self._done = None


def _memory(tensor: torch.Tensor) -> range:
    return range(tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes)


@pytest.mark.parametrize("way", ["plain", "packed"])
def test_copies_are_queued_well_ahead_of_what_waits_for_them(tmp_path: Path, way: str) -> None:
    tensors = {f"w{n:02}": weights(40_000, n) for n in range(COUNT)}
    loading, bus, decoded, looked_at = Loading.of(tmp_path, tensors), Bus(), [], []
    registry, store = loading.registry, loading.store
    mapping = read = registry.open(loading.path)
    if way == "packed":
        pack(loading.path, room_in(loading.folder))
        file = store.of(mapping.path, mapping.identity)
        assert file is not None
        read = file.mapping

        def decode(packed: torch.Tensor, weights: torch.Tensor, form: Form) -> None:
            bus.reads(packed)
            decoded.append(form)
            PLAIN.decode(packed, weights, form)

        store.choice.decoder = replace(store.choice.decoder, decode=decode)
    machine = Machine(piece=1 << 20)
    direct = Direct(registry, registrar=machine.registrar, held=ledger(), kinds=frozenset({"cpu"}))
    assert direct.hold(read)
    module = module_of(mapping.views())

    class Signed(Signature):
        def __init__(self, sizes: Sequence[int], *where: Any, **more: Any) -> None:
            looked_at.append(bus.order.count("batch"))
            super().__init__(sizes, *where, **more)

        def add(self, number: int, tensor: torch.Tensor) -> None:
            bus.reads(tensor)
            super().add(number, tensor)

    def run(items: Sequence[Any], lane: Any, **told: Any) -> list[torch.Tensor]:
        arena, opener = Arena(limit=1 << 20, chunk=64 << 10), file_opener(registry)
        return transfer(items, bus, arena, opener=opener, direct=direct, store=store, **told)

    # Twice as many bytes each time: most parts are one weight still, and so are the batches.
    Residency(module, registry=registry, run=run, signed=Signed, first=1).load(CARD)
    there = {name: raw_bytes(each) for name, each in module.named_parameters()}
    assert there == {name: raw_bytes(each) for name, each in tensors.items()}
    assert len(decoded) == (COUNT if way == "packed" else 0)
    batches = bus.order.count("batch")
    assert batches > AHEAD
    assert bus.order == ["batch"] * AHEAD + ["batch", "told"] * (batches - AHEAD) + ["told"] * AHEAD
    assert looked_at == list(range(batches)), "each part is looked at while those before it are on their way"


def _early(folder: Path, bus: Bus) -> tuple[Residency, torch.nn.Module]:
    """A model whose weights are registered, one a batch."""
    loading = Loading.of(folder, {f"w{n:02}": weights(4_000, n) for n in range(COUNT)})
    mapping = loading.registry.open(loading.path)
    direct = Direct(loading.registry, registrar=Machine().registrar, held=ledger(), kinds=frozenset({"cpu"}))
    assert direct.hold(mapping)

    def start(items: Sequence[Any], lane: Any, **told: Any) -> Underway:
        arena, opener = Arena(limit=1 << 20, chunk=64 << 10), file_opener(loading.registry)
        return Underway(items, lane, arena, opener=opener, direct=direct, **told)

    module = module_of(mapping.views())
    return Residency(module, registry=loading.registry, lanes=lambda _: bus, start=start), module


@pytest.mark.parametrize("patient", [False, True])
def test_whoever_is_patient_has_few_batches_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patient: bool
) -> None:
    monkeypatch.setattr(destinations, "_BATCH", 1)
    bus = Bus()
    residency, module = _early(tmp_path, bus)
    before = {name: raw_bytes(each) for name, each in module.named_parameters()}
    early = residency.early(CARD)
    early.begin(patient=patient)
    more = ["batch", "waited"] if patient else ["batch"]
    queued = ["batch"] * QUEUED + more * (COUNT - QUEUED)
    assert bus.order[: len(queued)] == queued, "whoever begins it tells of nothing"
    residency.load(CARD)
    assert bus.order[len(queued) :] == ["told"] * COUNT
    assert {name: raw_bytes(each) for name, each in module.named_parameters()} == before


@pytest.mark.parametrize("end", ["came", "stopped", "claimed"])
def test_whoever_is_patient_queues_nothing_while_somebody_waits_for_a_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(destinations, "_BATCH", 1)
    bus, errors = Bus(), list[str]()
    residency, module = _early(tmp_path, bus)
    before = {name: raw_bytes(each) for name, each in module.named_parameters()}
    early = residency.early(CARD)

    def begin() -> None:
        try:
            early.begin(patient=True)
        except Stopped:
            errors.append("stopped")

    thread = threading.Thread(target=begin)
    with TURNS.asked(CARD):
        thread.start()
        assert eventually(lambda: bus.order.count("batch") == 1)
        thread.join(0.1)
        assert bus.order.count("batch") == 1
        if end == "stopped":
            early.stop()
            thread.join(PATIENCE_S)
            assert errors == ["stopped"]
            assert not thread.is_alive(), "whoever is not wanted waits for nobody"
        if end == "claimed":
            assert early.claim(CARD), "nor does what somebody waits for itself"
    thread.join(PATIENCE_S)
    assert bus.order.count("batch") == (1 if end == "stopped" else COUNT)
    early.stop()
    residency.load(CARD)
    assert {name: raw_bytes(each) for name, each in module.named_parameters()} == before
