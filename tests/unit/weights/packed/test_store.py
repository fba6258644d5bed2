"""Loads and streaming with packed files: the same bytes, and with damaged ones the weight file's."""

from __future__ import annotations

import gc
import random
import sys
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flux_speedup.weights.packed.choice import Choice
from flux_speedup.weights.packed.decoding import PLAIN, Decoder, checksum
from flux_speedup.weights.packed.form import Form
from flux_speedup.weights.packed.index import Index
from flux_speedup.weights.residency.placement import Placement
from flux_speedup.weights.streaming.origin import Origin
from flux_speedup.weights.streaming.sources import Sources
from flux_speedup.weights.streaming.split import units_of
from flux_speedup.weights.streaming.staged import Staged
from flux_speedup.weights.streaming.stream import Stream
from flux_speedup.weights.streaming.timeline import PlainTimeline
from flux_speedup.weights.streaming.unit import InPackedForm, Unit
from flux_speedup.weights.transfer.direct import Direct
from tests import second_device
from tests.second_device.marks import needs_card
from tests.unit.weights.packed.packing_of import (
    Loading,
    checkpoint,
    chosen,
    is_packed,
    pack,
    room_in,
    weights,
)
from tests.unit.weights.registering import Machine, ledger
from tests.unit.weights.weight_files import CARD, module_of, raw_bytes, residency_of, write_weights

SMALL = {"w": weights(40_000), "bias": weights(33, 1)}


def packed(folder: Path, tensors: Any = None) -> tuple[Loading, dict[str, bytes], Path]:
    """A weight file with its packed one; the right bytes; the packed file."""
    tensors = tensors or checkpoint()
    loading = Loading.of(folder, tensors)
    pack(loading.path, room_in(loading.folder))
    right = {name.replace(".", "_"): raw_bytes(each) for name, each in tensors.items()}
    return loading, right, loading.places.packed


def sound(loading: Loading) -> bool:
    """Whether a packed file counts, and each tensor in it is as it was written."""
    index = Index.counting(loading.places.packed, loading.registry.open(loading.path).identity)
    if index is None:
        return False
    there = torch.frombuffer(bytearray(loading.places.packed.read_bytes()), dtype=torch.uint8)
    return all(int(checksum(there[e.offset : e.end])) == e.checksum for e in index.entries)


def test_each_flipped_byte_is_noticed_or_means_nothing(tmp_path: Path) -> None:
    loading, _, _ = packed(tmp_path, SMALL)
    index = Index.counting(loading.places.packed, loading.registry.open(loading.path).identity)
    assert index is not None
    assert sound(loading)
    used = {at for e in index.entries for at in range(e.offset, e.end)}
    for path, all_used in ((loading.places.packed, used), (loading.places.index, None)):
        clean = path.read_bytes()
        assert all_used is None or len(all_used) > len(clean) - 64
        step = 41 if all_used else 1
        for at in {*range(0, len(clean), step), *range(200), *range(len(clean) - 300, len(clean))}:
            changed = bytearray(clean)
            changed[at] ^= 1 << random.Random(at).randrange(8)
            path.write_bytes(changed)
            assert sound(loading) is (all_used is not None and at not in all_used)
        path.write_bytes(clean)
        assert sound(loading)


def test_each_truncation_is_noticed(tmp_path: Path) -> None:
    loading, _, _ = packed(tmp_path, SMALL)
    for path in (loading.places.index, loading.places.packed):
        size = path.stat().st_size
        for length in range(size - 1, -1, -1 if size < 4096 else -97):
            with path.open("r+b") as file:
                file.truncate(length)
            assert not sound(loading)
        pack(loading.path, room_in(loading.folder))
        assert sound(loading)


@pytest.mark.parametrize("damage", ["flipped", "cut", "index"])
def test_with_a_damaged_one_the_weight_file_is_read(tmp_path: Path, damage: str) -> None:
    loading, right, whole = packed(tmp_path, SMALL)
    file = loading.places.index if damage == "index" else whole
    raw = bytearray(file.read_bytes())
    raw[{"flipped": 30_000, "cut": 0, "index": -100}[damage]] ^= 16
    file.write_bytes(raw[:-1] if damage == "cut" else raw)
    for _ in range(2):
        found, read = loading.load()
        assert found == right
        assert loading.path in read


def test_a_packed_file_that_is_cut_while_it_is_open(tmp_path: Path) -> None:
    loading, right, whole = packed(tmp_path)
    assert loading.load()[0] == right
    with whole.open("r+b") as file:
        file.truncate(100_000)
    found, read = loading.load()
    assert found == right
    assert loading.path in read


@pytest.mark.parametrize("index", [b"", b"{}", b"[]", b"\xff", b'{"path": 1, "identity": null}', None])
def test_without_an_index_nothing_counts(tmp_path: Path, index: bytes | None) -> None:
    loading, right, _ = packed(tmp_path)
    file = loading.places.index
    file.unlink() if index is None else file.write_bytes(index)
    found, read = loading.load()
    assert found == right
    assert set(read) == {loading.path}


def test_switched_off_and_on(tmp_path: Path) -> None:
    loading, right, whole = packed(tmp_path)
    for on in (True, False, True):
        loading.store.use(loading.folder if on else None)
        found, read = loading.load()
        assert found == right
        assert (whole in read) is on


def test_what_nobody_uses_is_closed_at_once(tmp_path: Path) -> None:
    """Windows deletes nothing that is open."""
    loading, right, _ = packed(tmp_path, SMALL)
    assert loading.load()[0] == right
    (file,) = (weakref.ref(file) for file in loading.store._files.values() if file is not None)
    gc.disable()
    try:
        loading.store.look_again()
        assert file() is None
    finally:
        gc.enable()


def test_a_decoder_that_does_not_keep_up_is_not_used(tmp_path: Path) -> None:
    loading, right, whole = packed(tmp_path)
    loading.store.choice = slow()
    found, read = loading.load()
    assert found == right
    assert whole not in read


def test_somebodys_write_at_home_counts(tmp_path: Path) -> None:
    """A LoRA that was merged at home: the weight is RAM then, whatever the files say."""
    loading, right, _ = packed(tmp_path)
    views = loading.registry.open(loading.path).views()
    module = module_of({"w": views["layer.weight"], "slice": views["odd.weight"][64:4096]})
    module.w.data[3] = 7.0
    residency = residency_of(module, loading.registry, store=loading.store)
    residency.load(CARD)
    assert raw_bytes(module.w) == raw_bytes(views["layer.weight"]) != right["layer_weight"]
    assert raw_bytes(module.slice) == right["odd_weight"][128:8192]
    residency.unload()


def test_an_index_that_is_written_and_read(tmp_path: Path) -> None:
    loading, _, _ = packed(tmp_path)
    found = Index.read(loading.places.packed)
    assert found is not None
    assert found.path == loading.path
    assert found.identity == replace(loading.registry.open(loading.path).identity, device=0)
    index = loading.places.index
    index.write_bytes(index.read_bytes().replace(b"\n", b"\r\n"))  # as Windows writes texts
    assert Index.read(loading.places.packed) == found


@pytest.mark.skipif(sys.platform != "linux", reason="files are registered on Linux only")
def test_what_is_held_for_the_loads_that_follow_is_the_packed_file(tmp_path: Path) -> None:
    loading, right, whole = packed(tmp_path, {"w": weights(1_000_000), "bias": weights(33, 1)})
    decoded: list[Form] = []
    counted = lambda *arguments: (decoded.append(arguments[2]), PLAIN.decode(*arguments))  # noqa: E731
    choice = loading.store.choice
    choice.decoder = replace(choice.decoder, decode=counted)
    loading.store.warm = lambda path: True
    direct = Direct(
        loading.registry, registrar=Machine().registrar, held=ledger(), kinds=frozenset({"cpu"}), quiet_s=0.0
    )
    placement = Placement(loading.registry, direct=direct, store=loading.store)
    module = module_of(loading.registry.open(loading.path).views())
    summed: list[int] = []
    counted_sum = lambda raw: summed.append(raw.numel()) or checksum(raw)  # noqa: E731
    choice.decoder = replace(choice.decoder, sum=counted_sum)
    for load in range(3):
        placement.load(module, CARD)
        assert {name: raw_bytes(each) for name, each in module.named_parameters()} == right
        assert len(decoded) == load, "from staging slots it would gain nothing"
        assert len(summed) == (2 if load else 0), "once for each tensor"
        assert direct._idle.wait(10)
        placement.unload(module)
    file = loading.store.of(loading.path, loading.registry.open(loading.path).identity)
    assert file is not None
    assert direct.bytes == whole.stat().st_size
    assert direct.source(file.mapping.identity) is not None
    loading.store.warm = lambda path: not is_packed(path)  # it would have to be read first
    placement.load(module, CARD)
    assert direct._idle.wait(10)
    assert direct.source(loading.registry.open(loading.path).identity) is not None
    placement.unload(module)
    with whole.open("r+b") as open_file:  # pages that were looked at, and that nobody looks at again
        open_file.seek(500_000)
        open_file.write(b"damage")
    placement.load(module, CARD)
    assert {name: raw_bytes(each) for name, each in module.named_parameters()} == right
    assert file.damaged
    direct.release_all()


@pytest.mark.parametrize(("warm", "bus"), [(True, 1e11), (True, 1e10), (False, 1e11)])
def test_without_registered_pages_it_is_read_where_files_are_cold_or_the_bus_is_slow(
    tmp_path: Path, warm: bool, bus: float
) -> None:
    loading, right, whole = packed(tmp_path, SMALL)
    loading.store.warm = lambda path: warm or path == whole
    loading.store.choice.bus = bus
    found, read = loading.load()
    assert found == right
    assert set(read) == {loading.path if warm and bus == 1e11 else whole}


# What is chosen.


def slow() -> Choice:
    """No decoder keeps up with a disk."""
    choice = chosen(rate=1e9)
    choice.bus = 50e9
    return choice


def wrong(packed: torch.Tensor, out: torch.Tensor, form: Form) -> None:
    PLAIN.decode(packed, out, form)
    out[17] ^= 1


def fails(packed: torch.Tensor, out: torch.Tensor, form: Form) -> None:
    raise RuntimeError("no compiler here")


def test_only_what_decodes_rightly_is_chosen() -> None:
    others = [Decoder("wrong", wrong, PLAIN.sum), Decoder("fails", fails, PLAIN.sum)]
    choice = Choice(lambda: [*others, PLAIN], lambda _: 1.0, frozenset({"cpu"}))
    choice.find(CARD)
    assert choice.decoder.name == "plain"
    assert choice.pays_loading(CARD, cold=True)
    for none in (
        Choice(lambda: others, lambda _: 1.0, frozenset({"cpu"})),
        Choice(lambda: [PLAIN], lambda _: 1.0),  # a CPU has no bus
    ):
        none.find(CARD)
        assert none.decoder.rate == 0
        assert not none.pays_loading(CARD, cold=True)
        assert not none.pays_streaming(CARD)


@pytest.mark.parametrize(
    ("bus", "rate", "loads", "cold", "streams", "staged"),
    [
        (50e9, 2e12, True, True, True, True),
        (50e9, 500e9, True, True, True, False),
        (3e9, 200e9, True, True, True, True),
        (50e9, 100e9, True, True, False, False),
        (50e9, 20e9, False, True, False, False),
    ],
)
def test_where_it_pays(bus: float, rate: float, loads: bool, cold: bool, streams: bool, staged: bool) -> None:
    choice = chosen(rate=rate)
    choice.bus = bus
    assert choice.pays_loading(CARD, cold=False) is loads
    assert choice.pays_loading(CARD, cold=True) is cold
    assert choice.pays_streaming(CARD) is streams
    assert choice.pays_streaming(CARD, staged=True) is staged
    assert not choice.pays_streaming(torch.device("cpu", 1))
    assert not Choice().pays_loading(CARD, cold=True), "nobody has measured"


def test_what_is_read_ahead(tmp_path: Path) -> None:
    loading, _, whole = packed(tmp_path)
    loading.store.warm = lambda path: True
    assert loading.store.instead_of(loading.path) == loading.path
    loading.store.warm = is_packed
    for rate, read in ((1e12, whole), (1e9, loading.path)):
        loading.store.choice = chosen(rate=rate)
        loading.store.choice.bus = 50e9
        assert loading.store.instead_of(loading.path) == read
    loading.store.choice = Choice()  # nobody has measured yet
    assert loading.store.instead_of(loading.path) == whole
    assert loading.store.instead_of(tmp_path / "none") == tmp_path / "none"


# Streaming.


def model_of(views: dict[str, torch.Tensor]) -> torch.nn.Module:
    model = torch.nn.Sequential(*(torch.nn.Linear(1, 1, bias=False) for _ in range(4)))
    for number, layer in enumerate(model):
        layer.weight = torch.nn.Parameter(views[f"{number}.weight"], requires_grad=False)
    return model


class Seen:
    """What the layers computed with, round after round."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.bytes: list[bytes] = []
        for layer in model:
            layer.forward = lambda x, own=layer: self._look(own, x)

    def _look(self, layer: Any, x: torch.Tensor) -> torch.Tensor:
        self.bytes.append(raw_bytes(layer.weight))
        return x


@pytest.mark.parametrize("staged", [False, True])
@pytest.mark.parametrize("damage", [False, True])
@pytest.mark.parametrize("device", [CARD, pytest.param(second_device.CARD, marks=needs_card)])
def test_streams_the_same_bytes(tmp_path: Path, device: torch.device, damage: bool, staged: bool) -> None:
    tensors = {f"{n}.weight": weights(600_000 + n, n).view(1, -1) for n in range(4)}
    loading, _, whole = packed(tmp_path, tensors)
    if damage:
        raw = bytearray(whole.read_bytes())
        raw[1_500_000] ^= 4
        whole.write_bytes(raw)
    loading.store.choice = chosen(device)
    model = model_of(loading.registry.open(loading.path).views())
    seen = Seen(model)
    timeline = PlainTimeline(device)
    origin = Origin(timeline, loading.registry, None, store=loading.store)
    units = units_of(model, lambda module: True, lambda tensor: tensor.nbytes)
    supply = Staged(timeline, loading.registry, "test", 2) if staged else origin.supply()
    brought: list[int] = []

    def pieces(slot: Any) -> Sequence[torch.Tensor]:
        found = origin.pieces(slot)
        brought.append(sum(piece.numel() for piece in found))
        return found

    stream = Stream(units, timeline, supply, 4_000_000, pieces=pieces)
    origin.choose([layer.weight for layer in model])
    stream.set_streamed(units)
    for _ in range(3):
        model(torch.zeros(1))
    stream.close()
    origin.close()
    assert seen.bytes == [raw_bytes(each) for each in tensors.values()] * 3
    assert brought[0] < 0.76 * 1_200_000
    file = loading.store._files[loading.registry.open(loading.path).identity]
    assert file is not None
    assert file.damaged is damage


@pytest.mark.skipif(sys.platform != "linux", reason="files are registered on Linux only")
@pytest.mark.parametrize(
    ("in_ram", "room", "read"),
    [
        ("both", True, "packed, registered"),
        ("both", False, "weight file"),
        ("weight file", True, "weight file, registered"),
        ("weight file", False, "weight file"),
        ("packed file", True, "packed, registered"),
        ("packed file", False, "packed"),
        ("none", True, "packed, registered"),
        ("none", False, "packed"),
    ],
)
def test_which_form_streams(tmp_path: Path, in_ram: str, room: bool, read: str) -> None:
    loading, _, whole = packed(tmp_path, {"0.weight": weights(600_000).view(1, -1)})
    there = {"both": {loading.path, whole}, "weight file": {loading.path}, "packed file": {whole}}
    loading.store.warm = lambda path: path in there.get(in_ram, ())
    registrar, kinds = Machine().registrar, frozenset({"cpu"})
    held = ledger() if room else ledger(1)
    direct = Direct(loading.registry, registrar=registrar, held=held, kinds=kinds, quiet_s=0.0)
    sources = Sources(loading.registry, direct, CARD, loading.store)
    layer = torch.nn.Linear(1, 1, bias=False)
    home = loading.registry.open(loading.path).views()["0.weight"]
    layer.weight = torch.nn.Parameter(home, requires_grad=False)
    unit = Unit(0, "layer")
    assert unit.look(layer, lambda tensor: tensor.dtype)
    for _ in range(2):
        assert sources.hold([layer.weight]) is room
        pieces = sources.pieces(unit.slots[0])
        form = "packed" if isinstance(pieces, InPackedForm) else "weight file"
        assert (form + ", registered" * sources.is_registered(unit.slots[0])) == read
        if not room:
            break
        # Of a file that is registered in part the rest may have left RAM.
        loading.store.warm = lambda path: path == loading.path
        sources._known.clear()
    sources.close()
    direct.release_all()


def test_a_stream_goes_on_from_the_file_when_a_packed_one_comes_or_goes(tmp_path: Path) -> None:
    tensors = {f"{n}.weight": weights(600_000, n).view(1, -1) for n in range(4)}
    loading = Loading.of(tmp_path, tensors)
    write_weights(tmp_path / "other.safetensors", tensors)
    model = model_of(loading.registry.open(loading.path).views())
    origin = Origin(PlainTimeline(CARD), loading.registry, None, store=loading.store)
    units = units_of(model, lambda module: True, lambda tensor: tensor.nbytes)
    for module, unit in units.items():
        unit.look(module, lambda tensor: tensor.dtype)

    def comes() -> int:
        origin._sources.look_again()
        return sum(
            piece.numel() for unit in units.values() for slot in unit.slots for piece in origin.pieces(slot)
        )

    whole, before = comes(), origin.changes
    assert whole == 4 * 1_200_000
    pack(loading.path, room_in(loading.folder))
    loading.store.look_again()
    assert comes() < 0.76 * whole
    assert origin.changes > before
    loading.store.use(None)
    assert comes() == whole
    origin.close()
