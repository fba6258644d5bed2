"""Mappings: one a file, alive while a view is, never writing to the file; spans found only in living ones."""

from __future__ import annotations

import gc
import sys
import warnings
from pathlib import Path

import psutil
import pytest
import torch

from flux_speedup.weights.errors import HeaderError, MappingError
from flux_speedup.weights.files.header import DTYPES
from flux_speedup.weights.files.looks import Looks
from flux_speedup.weights.files.mapped import Held
from flux_speedup.weights.files.mapping import Near, Registry
from flux_speedup.weights.files.span import find
from flux_speedup.weights.files.written import (
    PAGE,
    Ranges,
    _by_smaps,
    by_pagemap,
    by_scan,
    overlaps,
    written_ranges,
)
from tests.unit.weights.weight_files import identity_of, random_tensor, raw_bytes, write_weights
from tests.waiting import eventually

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")


@pytest.fixture
def registry() -> Registry:
    return Registry()


def test_views_are_the_files_tensors_whatever_the_dtype(tmp_path: Path, registry: Registry) -> None:
    tensors = {name: random_tensor((3, 8), dtype, n) for n, (name, dtype) in enumerate(DTYPES.items())}
    tensors |= {"empty": torch.empty(0, 4), "scalar": torch.tensor(2.5)}
    path = write_weights(tmp_path / "a.safetensors", tensors)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        views = registry.open(path).views()
    assert views.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (views[name].dtype, views[name].shape) == (tensor.dtype, tensor.shape)
        assert raw_bytes(views[name]) == raw_bytes(tensor)
        assert views[name].untyped_storage().nbytes() == tensor.nbytes


def test_what_is_written_into_one_mapping_shows_in_no_other(tmp_path: Path, registry: Registry) -> None:
    path = write_weights(tmp_path / "a.safetensors", {"a": torch.ones(9)})
    before = registry.open(path).views()["a"]
    written = registry.open(path).views()["a"]
    written.add_(1)
    after = registry.open(path).views()["a"]
    assert before.tolist() == after.tolist() == [1.0] * 9
    assert len(registry.live()) == 3


def test_the_mapping_lives_exactly_as_long_as_a_view(tmp_path: Path, registry: Registry) -> None:
    path = write_weights(tmp_path / "a.safetensors", {"a": torch.arange(100.0), "b": torch.ones(5)})
    gc.collect()
    files = psutil.Process().num_fds() if sys.platform == "linux" else 0
    piece = registry.open(path).views()["a"][10:20]
    gc.collect()
    assert len(registry.live()) == 1
    assert torch.equal(piece, torch.arange(10.0, 20.0))
    del piece
    gc.collect()
    assert registry.live() == []
    assert registry.descriptor(identity_of(path)) is None
    if sys.platform == "linux":
        assert psutil.Process().num_fds() == files


def test_writing_into_a_view_leaves_the_file_alone(tmp_path: Path, registry: Registry) -> None:
    path = write_weights(tmp_path / "a.safetensors", {"a": torch.ones(9)})
    before = path.read_bytes()
    view = registry.open(path).views()["a"]
    view.add_(1)
    assert path.read_bytes() == before
    assert view.tolist() == [2.0] * 9


def test_a_changed_file_is_another_mapping(tmp_path: Path, registry: Registry) -> None:
    path = write_weights(tmp_path / "a.safetensors", {"a": torch.ones(9)})
    old = registry.open(path).views()["a"]
    write_weights(tmp_path / "new", {"a": torch.zeros(9)}).replace(path)
    new = registry.open(path).views()["a"]
    assert old.tolist() == [1.0] * 9
    assert new.tolist() == [0.0] * 9


def test_missing_and_broken_files_are_named(tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(MappingError, match=r"none\.safetensors"):
        registry.open(tmp_path / "none.safetensors")
    with pytest.raises(MappingError, match="cannot be mapped"):
        registry.open(tmp_path)
    (tmp_path / "bad.safetensors").write_bytes(b"\x05\x00\x00\x00\x00\x00\x00\x00hello")
    with pytest.raises(HeaderError, match=r"bad\.safetensors"):
        registry.open(tmp_path / "bad.safetensors")
    assert registry.live() == []


def test_finds_tensors_slices_and_other_dtypes_of_the_same_bytes(tmp_path: Path, registry: Registry) -> None:
    path = write_weights(
        tmp_path / "a.safetensors", {"a": torch.ones(4, 6), "b": random_tensor((6, 8), torch.bfloat16)}
    )
    mapping = registry.open(path)
    views = mapping.views()
    entry = mapping.header.tensors["b"]
    whole = find(views["b"], registry)
    assert whole is not None
    assert (whole.path, whole.identity) == (path, identity_of(path))
    assert (whole.offset, whole.length, whole.dtype, whole.shape) == (
        entry.offset,
        96,
        torch.bfloat16,
        (6, 8),
    )
    part = find(views["b"][2:5], registry)
    assert part is not None
    assert (part.offset, part.length, part.shape) == (entry.offset + 32, 48, (3, 8))
    bits = find(views["b"].view(torch.int16), registry)
    assert bits is not None
    assert (bits.offset, bits.dtype) == (entry.offset, torch.int16)
    parameter = find(torch.nn.Parameter(views["b"], requires_grad=False), registry)
    assert parameter == whole


def test_what_is_no_view_of_a_living_mapping_has_no_span(tmp_path: Path, registry: Registry) -> None:
    path = write_weights(tmp_path / "a.safetensors", {"a": torch.ones(4, 6)})
    view = registry.open(path).views()["a"]
    assert find(view.t(), registry) is None
    assert find(view[:, :3], registry) is None
    assert find(view.clone(), registry) is None
    assert find(view[:0], registry) is None
    assert find(view, Registry()) is None
    assert find(torch.ones(2, 3), registry) is None
    assert find(torch.empty(2, device="meta"), registry) is None
    assert find(torch.ones(2, 2).to_sparse(), registry) is None


def test_an_address_that_is_used_again_is_not_a_span(tmp_path: Path, registry: Registry) -> None:
    path = write_weights(tmp_path / "a.safetensors", {"a": torch.ones(3 << 20)})
    mapping = registry.open(path)
    address, length = mapping.address, mapping.identity.size
    del mapping
    gc.collect()
    assert registry.around(address, length) is None


@linux
@pytest.mark.parametrize(
    "ask",
    [
        written_ranges,
        lambda a, n: by_scan(a, a + n),
        lambda a, n: by_pagemap(a, a + n),
        lambda a, n: _by_smaps(a, a + n),
    ],
)
def test_written_pages_are_found_and_untouched_ones_stay_out_of_ram(
    tmp_path: Path, registry: Registry, ask: object
) -> None:
    assert callable(ask)
    elements = 64 * PAGE // 4
    path = write_weights(tmp_path / "a.safetensors", {"a": torch.zeros(elements), "b": torch.zeros(elements)})
    mapping = registry.open(path)
    views = mapping.views()
    length = -(-mapping.identity.size // PAGE) * PAGE
    try:
        assert ask(mapping.address, length) == []
    except OSError:
        pytest.skip("this kernel has no page scan")
    float(views["b"].sum())
    assert ask(mapping.address, length) == []
    views["a"][5 * PAGE // 4 : 7 * PAGE // 4] = 1
    ranges = ask(mapping.address, length)
    assert overlaps(ranges, views["a"].data_ptr() + 5 * PAGE, 2 * PAGE)
    assert not overlaps(ranges, views["b"].data_ptr(), views["b"].nbytes)
    assert not overlaps(ranges, views["a"].data_ptr(), 3 * PAGE)
    assert sum(end - begin for begin, end in ranges) <= 3 * PAGE


def _not_here(start: int, end: int) -> Ranges:
    raise OSError("no such ioctl")


@pytest.mark.parametrize("older", [False, True])
def test_a_part_is_looked_at_alone_where_the_kernel_can(older: bool) -> None:
    asked: list[tuple[int, int]] = []

    def scan(start: int, end: int) -> Ranges:
        asked.append((start, end))
        return [(start, start + PAGE)]

    ways = [_not_here, scan] if older else [scan, _not_here]
    looks = Looks(ways, ask=lambda *_: pytest.fail("all of it was looked at"))
    first = 1000 * PAGE
    near, far = (first + 9 * PAGE, first + 10 * PAGE), (5000 * PAGE + 3, 5001 * PAGE + 3)
    assert looks.among([far, (first + 8, first + 9), near], 0, 1 << 40) == [
        (first, first + PAGE),
        (5000 * PAGE, 5001 * PAGE),
    ]
    assert asked == [(first, first + 10 * PAGE), (5000 * PAGE, 5002 * PAGE)]
    looks.among([near], 0, 1 << 40)
    assert asked[2:] == [near]


@pytest.mark.parametrize("found", [[(5, 6)], None])
def test_elsewhere_each_mapping_is_looked_at_once(found: Ranges | None) -> None:
    asked: list[tuple[int, int]] = []

    def ask(address: int, length: int) -> Ranges | None:
        asked.append((address, length))
        return found

    looks = Looks([_not_here], ask)
    for address in (0, PAGE, 0):
        assert looks.among([(address, address + 1)], address, 100) == found
    assert asked == [(0, 100), (PAGE, 100)]


@pytest.mark.parametrize("leases", [False, True])
def test_what_dies_while_it_is_looked_at_was_not_written_over(
    tmp_path: Path, leases: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry(leases=leases)
    views = registry.open(write_weights(tmp_path / "a.safetensors", {"a": torch.ones(9)})).views()
    is_current = Held.is_current

    def dies_first(held: Held, *, closely: bool = True) -> bool:
        views.clear()
        gc.collect()
        return is_current(held, closely=closely)

    monkeypatch.setattr(Held, "is_current", dies_first)
    assert registry.lost() == []
    assert eventually(lambda: registry.live() == [])  # the watching thread may be looking as well
    assert (registry.writers.over, caplog.messages) == ([], [])


def test_overlap_is_about_shared_bytes() -> None:
    assert overlaps([(100, 200)], 199, 1)
    assert not overlaps([(100, 200)], 200, 50)
    assert not overlaps([(100, 200)], 50, 50)
    assert not overlaps([], 0, 1 << 40)


@pytest.mark.parametrize("name", ["a", "\N{SNOWMAN}" * 81])  # as long as a name can be
def test_a_mapped_file_that_is_written_over_keeps_its_bytes(
    tmp_path: Path, registry: Registry, name: str
) -> None:
    path = write_weights(tmp_path / f"{name}.safetensors", {"a": torch.arange(5000.0)})
    view = registry.open(path).views()["a"]
    with registry.stepped_aside(path):
        path.write_bytes(b"a new file")
    assert torch.equal(view, torch.arange(5000.0))  # truncated in place, this would end the process
    assert [each.name for each in tmp_path.iterdir()] == [f"{name}.safetensors"]
    assert path.read_bytes() == b"a new file"


def test_where_writing_over_it_fails_the_file_is_what_it_was(tmp_path: Path, registry: Registry) -> None:
    path = write_weights(tmp_path / "a.safetensors", {"a": torch.arange(5000.0)})
    view = registry.open(path).views()["a"]
    before = path.read_bytes()

    def write_half() -> None:
        with registry.stepped_aside(path):
            path.write_bytes(b"half a fi")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["a.safetensors"]
    assert torch.equal(view, torch.arange(5000.0))


def test_a_file_that_nobody_maps_is_none_of_its_business(tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "b.safetensors"
    for target in (path, tmp_path / "none" / "c", "not a\0path"):
        with registry.stepped_aside(target):
            assert list(tmp_path.iterdir()) == ([path] if path.exists() else [])
            path.write_bytes(b"theirs")


def test_many_addresses_in_a_row_are_where_each_of_them_would_be(tmp_path: Path, registry: Registry) -> None:
    paths = [
        write_weights(tmp_path / f"{n}.safetensors", {"a": torch.ones(99), "b": torch.ones(9)}) for n in "xy"
    ]
    near, views = Near(registry), [registry.open(path).views() for path in paths]
    for view in (views[0]["a"], views[0]["b"], views[1]["b"], torch.ones(5), views[1]["a"], views[0]["a"]):
        known = registry.around(view.data_ptr(), view.nbytes)
        found = near.around(view.data_ptr(), view.nbytes)
        assert (found and found.address) == (known and known.address)
    address = views[0]["b"].data_ptr()
    assert near.around(address, 1 << 30) is None, "more than the file has"
    del views, view
    gc.collect()
    assert near.around(address, 1) is not None, "while it is asked nothing else can be there"
    del near, found, known
    gc.collect()
    assert registry.live() == []
