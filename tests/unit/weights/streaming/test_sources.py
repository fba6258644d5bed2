"""Where streamed bytes are read: the file's own pages where they are registered and unwritten, else home."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from flux_speedup.ram import Free, Held
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.streaming.sources import Sources
from flux_speedup.weights.streaming.unit import Unit
from flux_speedup.weights.transfer.direct import Direct
from flux_speedup.weights.transfer.registration import Registrar

pytestmark = pytest.mark.skipif("sys.platform != 'linux'", reason="registers on Linux only")


class Files:
    """A layer whose weights are views of a file; `registered` is what the system was asked for."""

    def __init__(self, folder: Path, ram: int = 1 << 40) -> None:
        torch.manual_seed(0)
        self.path = path = folder / "weights.safetensors"
        save_file({"weight": torch.randn(64, 1024), "bias": torch.randn(64)}, path)
        self.bytes = path.read_bytes()
        self.registry = Registry()
        self.views = self.registry.open(path).views()
        self.layer = torch.nn.Linear(1024, 64)
        for name, view in self.views.items():
            self.layer._parameters[name] = torch.nn.Parameter(view, requires_grad=False)
        self.registered: list[int] = []
        registrar = Registrar(self._register, lambda address: self.registered.remove(address))
        self.settled: list[bool] = []
        self.direct = Direct(
            self.registry,
            registrar=registrar,
            held=Held(lambda _: Free(ram, ram)),
            share=0.0,
            settle=lambda: self.settled.append(self.path.read_bytes() == self.bytes),
        )
        self.sources = Sources(self.registry, self.direct)
        self.unit = Unit(0, "layer")
        assert self.unit.look(self.layer, lambda tensor: tensor.dtype)

    def _register(self, address: int, _size: int) -> int:
        self.registered.append(address)
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
    assert files.sources.registered == 1


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
