"""Where streamed bytes are read: the file's own pages where they are registered and unwritten, else home."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from flux_speedup.ram import NOTHING, Free, Held
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.streaming.loads import Loads
from flux_speedup.weights.streaming.sources import Sources
from flux_speedup.weights.streaming.unit import Unit
from flux_speedup.weights.transfer.direct import Direct
from flux_speedup.weights.transfer.registration import Registrar

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif("sys.platform != 'linux'", reason="registers on Linux only")


class Files:
    """A layer whose weights are views of a file; `registered` is what the system was asked for."""

    def __init__(self, folder: Path, ram: int = 1 << 40, piece: int = 1 << 30) -> None:
        torch.manual_seed(0)
        self.path = path = folder / "weights.safetensors"
        save_file({"weight": torch.randn(64, 1024), "bias": torch.randn(64)}, path)
        self.bytes = path.read_bytes()
        self.registry = Registry()
        self.views = self.registry.open(path).views()
        self.layer = torch.nn.Linear(1024, 64)
        for name, view in self.views.items():
            self.layer._parameters[name] = torch.nn.Parameter(view, requires_grad=False)
        self.registered: dict[int, int] = {}
        self.busy = False
        registrar = Registrar(self._register, self._unregister, piece)
        self.settled: list[bool] = []
        self.direct = Direct(
            self.registry,
            registrar=registrar,
            held=Held(lambda _: Free(ram, ram)),
            rule=NOTHING,
            kinds=frozenset({"cpu"}),
            busy=lambda: self.busy,
            warm=lambda _: True,
            quiet_s=0.01,
            settle=lambda: self.settled.append(self.path.read_bytes() == self.bytes),
        )
        self.sources = Sources(self.registry, self.direct)
        self.unit = Unit(0, "layer")
        assert self.unit.look(self.layer, lambda tensor: tensor.dtype)

    def _register(self, address: int, size: int) -> int:
        assert address not in self.registered
        self.registered[address] = size
        return 0

    def _unregister(self, address: int) -> int:
        del self.registered[address]
        return 0

    def inside(self) -> list[bool]:
        """Whether each slot is read from registered pages; its bytes are right in any case."""
        found = []
        for slot in self.unit.slots:
            pieces = list(self.sources.pieces(slot))
            assert torch.equal(torch.cat(pieces), slot.home.reshape(-1).view(torch.uint8))
            found.append(pieces[0].data_ptr() != slot.home.data_ptr())
        return found


def test_registered_pages_are_read_and_let_go_at_the_end(tmp_path: Path) -> None:
    files = Files(tmp_path)
    assert files.inside() == [False, False]
    assert files.sources.hold([files.layer.weight, files.layer.bias])
    assert files.inside() == [True, True]
    assert not files.sources.changed()
    files.sources.close()
    assert files.inside() == [False, False]
    files.direct.release_all()
    assert not files.registered


def test_what_was_written_at_home_is_read_at_home(tmp_path: Path) -> None:
    files = Files(tmp_path)
    assert files.sources.hold([files.layer.weight])
    files.layer.weight.data[0] += 1
    assert files.sources.changed()
    assert files.inside()[0] is False
    assert not files.sources.changed()


def test_without_room_or_without_a_device_that_reads_it_everything_comes_from_home(tmp_path: Path) -> None:
    files = Files(tmp_path, ram=1000)
    assert not files.sources.hold([files.layer.weight])
    assert files.inside() == [False, False]
    alone = Sources(files.registry, None)
    assert not alone.hold([files.layer.weight])
    assert not files.registered


def test_nothing_and_weights_of_no_file_are_not_said_to_be_registered(tmp_path: Path) -> None:
    files = Files(tmp_path)
    assert not files.sources.hold([])
    assert not files.sources.hold([torch.randn(8), files.layer.weight])
    assert files.sources.changes == 1
    assert len(files.registered) == 1
    assert not files.sources.hold([torch.randn(8), files.layer.weight])
    assert files.sources.changes == 1


def test_no_more_of_a_file_is_held_than_streams(tmp_path: Path) -> None:
    files = Files(tmp_path, piece=4096)
    weight, bias = files.layer.weight, files.layer.bias
    assert files.sources.hold([bias])
    assert files.inside() == [False, True]
    assert len(files.registered) <= 2
    assert files.direct.bytes == sum(files.registered.values()) < weight.nbytes
    assert files.sources.hold([bias, weight])  # more streams now; what is there stays
    assert files.inside() == [True, True]
    assert files.direct.bytes >= weight.nbytes + bias.nbytes
    files.sources.close()


def test_what_is_registered_in_the_background_is_read_from_the_next_look_on(tmp_path: Path) -> None:
    files = Files(tmp_path)
    homes = [files.layer.weight, files.layer.bias]
    files.busy = True
    assert not files.sources.hold(homes, CPU)
    assert not files.sources.hold(homes, CPU)
    assert files.inside() == [False, False]
    assert not files.registered  # nobody waits for it
    files.busy = False
    assert files.direct._idle.wait(10)
    assert files.registered
    assert files.inside() == [False, False]  # a pass may be under way
    before = files.sources.changes
    files.sources.look_again()
    assert files.sources.changes == before + 1
    assert files.sources.hold(homes, CPU)
    assert files.inside() == [True, True]
    files.direct.release_all()
    assert files.inside() == [False, False]
    assert files.registered  # a copy may still read there
    files.sources.close()
    assert not files.registered


@pytest.mark.parametrize("how", ["in place", "cut short and written anew"])
def test_a_file_that_is_written_over_while_it_streams_gives_its_old_bytes(tmp_path: Path, how: str) -> None:
    files = Files(tmp_path)
    before = [slot.home.clone() for slot in files.unit.slots]
    assert files.sources.hold([files.layer.weight, files.layer.bias])
    assert files.inside() == [True, True]
    with files.path.open("r+b" if how == "in place" else "wb") as file:  # waits until the old bytes are safe
        file.write(bytes(len(files.bytes)))
    assert [torch.equal(slot.home, old) for slot, old in zip(files.unit.slots, before, strict=True)] == [
        True,
        True,
    ]
    assert files.inside() == [False, False]
    assert files.settled == [True]  # whoever was reading had ended before anybody could write


@pytest.mark.parametrize("piece", [4096, 1 << 30])
def test_what_lies_side_by_side_in_one_registration_comes_in_one_copy(tmp_path: Path, piece: int) -> None:
    files = Files(tmp_path, piece=piece)
    loads = Loads(torch.zeros(files.unit.place, dtype=torch.uint8), files.sources.pieces)
    assert len(loads.into(files.unit, 0, None)[0].copies) == 2  # at home the host may have pinned each alone
    assert files.sources.hold([files.layer.weight, files.layer.bias])
    load, views = loads.into(files.unit, 0, None)
    for target, source in load.copies:
        target.copy_(source)
        first, last = source.data_ptr(), source.data_ptr() + source.numel() - 1
        assert any(at <= first and last < at + size for at, size in files.registered.items())
    assert all(torch.equal(view, slot.home) for view, slot in zip(views, files.unit.slots, strict=True))
    assert len(load.copies) == len(files.registered)
    files.sources.close()
