"""Where streamed bytes come from: registered pages, else pinned copies within the RAM rule, else staging."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from flux_speedup.ram import NOTHING, Free, Held
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.streaming.origin import Origin
from flux_speedup.weights.streaming.staged import Staged
from flux_speedup.weights.streaming.stream import Stream
from flux_speedup.weights.streaming.supply import Straight
from flux_speedup.weights.streaming.timeline import PlainTimeline
from flux_speedup.weights.streaming.unit import Unit
from flux_speedup.weights.transfer.blocks import Blocks
from flux_speedup.weights.transfer.direct import Direct
from flux_speedup.weights.transfer.registration import Registrar
from flux_speedup.weights.transfer.spare import Spare

LAYERS = 4
SIZE = 65 * 65 * 4


class Pinned(PlainTimeline):
    """Copies as soon as it is told to, but says that it wants pinned memory."""

    pinned = True


def ledger(room: int) -> Held:
    """May hold `room` bytes."""
    made: list[Held] = []
    made.append(Held(lambda _: Free(1 << 40, 1 << 40)))
    made[0].room = lambda rule=None: room - made[0].bytes  # type: ignore[method-assign]
    return made[0]


class Machine:
    """A model from a file; `registers`: whether the system registers file pages (Windows does not)."""

    def __init__(self, folder: Path, room: int, *, registers: bool) -> None:
        torch.manual_seed(3)
        self.registry, self.ledger = Registry(), ledger(room)
        path = folder / "weights.safetensors"
        model = torch.nn.Sequential(*[torch.nn.Linear(65, 65) for _ in range(LAYERS)]).requires_grad_(False)
        self.x = torch.randn(3, 65)
        self.expected = model(self.x)
        save_file(model.state_dict(), path)
        for name, view in self.registry.open(path).views().items():
            place, _, leaf = name.partition(".")
            model[int(place)]._parameters[leaf] = torch.nn.Parameter(view, requires_grad=False)
        self.model = model
        registrar = Registrar(lambda _a, _s: 0, lambda _a: 0)
        direct = Direct(self.registry, registrar=registrar, held=self.ledger, rule=NOTHING)
        timeline = Pinned(torch.device("cpu"))
        self.spare = Spare(self.ledger, quiet_s=60.0)
        blocks = Blocks(registrar=registrar, held=self.ledger, rest=0.0, spare=self.spare)
        self.origin = Origin(timeline, self.registry, direct if registers else None, blocks=blocks)
        self.units = {layer: Unit(number, str(number)) for number, layer in enumerate(model)}
        kept, pieces = self.origin.kept, self.origin.pieces
        self.stream = Stream(self.units, timeline, self.origin.supply(), 60_000, pieces=pieces, kept=kept)
        self.stream.set_streamed(self.units)
        if self.origin.choose(list(model.parameters())):
            self.stream.set_supply(self.origin.supply())

    def words(self) -> str:
        return self.origin.words(list(self.units.values()))

    def run(self) -> None:
        assert torch.equal(self.model(self.x), self.expected)

    def settle(self) -> str:
        """What it says once nothing changes any more."""
        said = ""
        for _ in range(200):
            self.run()
            if self.words() == said and (not self.origin.kept.is_empty or self.origin.straight):
                break
            said = self.words()
        return said


@pytest.mark.skipif(sys.platform != "linux", reason="registers on Linux only")
def test_registered_pages_come_first_and_nothing_is_copied_then(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 1 << 30, registers=True)
    assert isinstance(machine.origin.supply(), Straight)
    assert machine.settle() == "registered file pages"
    assert machine.origin.kept.is_empty
    machine.stream.close()
    machine.origin.close()


@pytest.mark.parametrize(("layers", "room"), [(LAYERS, 1 << 30), (2, 2 * (SIZE + 1024)), (0, 1000)])
def test_else_as_much_is_pinned_as_the_rule_allows(tmp_path: Path, layers: int, room: int) -> None:
    machine = Machine(tmp_path, room, registers=False)
    assert isinstance(machine.origin.supply(), Staged)
    for _ in range(100):
        machine.run()
        kept = [unit for unit in machine.units.values() if machine.origin.kept.find(unit) is not None]
        assert machine.ledger.bytes <= room
        if len(kept) == layers:
            break
    assert len(kept) == layers
    assert ("pinned" in machine.words()) is (layers > 0)
    machine.run()
    with torch.no_grad():
        machine.model[0].weight.data[0] += 1  # at home: what is kept of it does not count
    assert machine.origin.changed()
    assert not machine.origin.changed()
    machine.stream.forget(range(LAYERS))
    now = machine.model(machine.x)
    machine.stream.close()
    assert torch.equal(machine.model(machine.x), now)  # as at home
    assert not torch.equal(now, machine.expected)
    machine.origin.close()
    machine.spare.drop()
    assert machine.ledger.bytes == 0
