"""Sources: short reads go on, changed files are refused, the mapped file is read whatever its name says."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_speedup.weights.errors import ReadError
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.transfer.reader import FileSource, MemorySource
from tests.unit.weights.weight_files import identity_of, random_tensor, raw_bytes, write_weights


class Stingy(FileSource):
    """Reads less than it is asked for, as network drives and signals do."""

    most = 7

    def _read(self, offset: int, target: memoryview) -> int:
        return super()._read(offset, target[: self.most])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(
        tmp_path_factory.mktemp("r") / "a.safetensors", {"a": random_tensor((3000,), torch.uint8)}
    )


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(1, 400))
def test_short_reads_add_up(path: Path, offset: int, length: int, most: int) -> None:
    content = path.read_bytes()
    length = min(length, len(content) - offset)
    source = Stingy(path, identity_of(path), Registry())
    source.most = most
    target = bytearray(length)
    source.read_into(offset, memoryview(target))
    source.check()
    source.close()
    assert bytes(target) == content[offset : offset + length]


def test_without_preadv_every_thread_reads_through_a_file_of_its_own(path: Path) -> None:
    content = path.read_bytes()
    source = FileSource(path, identity_of(path), Registry(), positional=False)
    wrong: list[int] = []

    def read(start: int) -> None:
        for offset in range(start, len(content) - 50, 97):
            target = bytearray(50)
            source.read_into(offset, memoryview(target))
            if bytes(target) != content[offset : offset + 50]:
                wrong.append(offset)

    threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    source.check()
    source.close()
    assert wrong == []


def test_the_end_of_the_file_is_an_error_with_its_place(path: Path) -> None:
    size = path.stat().st_size
    source = FileSource(path, identity_of(path), Registry())
    with pytest.raises(ReadError, match="ended here") as caught:
        source.read_into(size - 4, memoryview(bytearray(8)))
    source.close()
    assert caught.value.offset == size
    assert str(path) in str(caught.value)


def test_a_read_error_names_file_place_and_reason(path: Path) -> None:
    class Failing(FileSource):
        def _read(self, offset: int, target: memoryview) -> int:
            raise OSError(5, "Input/output error")

    source = Failing(path, identity_of(path), Registry())
    with pytest.raises(ReadError, match=r"at byte 16: .*Input/output error"):
        source.read_into(16, memoryview(bytearray(8)))
    source.close()


def test_a_file_replaced_under_its_name(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "a.safetensors", {"a": torch.ones(50)})
    old, identity = path.read_bytes(), identity_of(path)
    registry = Registry()
    views = registry.open(path).views()
    write_weights(tmp_path / "b", {"a": torch.zeros(50)}).replace(path)
    with pytest.raises(ReadError, match="changed or replaced"):
        FileSource(path, identity, Registry())
    source = FileSource(path, identity, registry)
    target = bytearray(len(old))
    source.read_into(0, memoryview(target))
    source.check()
    source.close()
    assert bytes(target) == old
    assert raw_bytes(views["a"]) == raw_bytes(torch.ones(50))


def test_a_file_changed_in_place_is_refused_before_and_after(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "a.safetensors", {"a": torch.ones(50)})
    identity = identity_of(path)
    source = FileSource(path, identity, Registry())
    os.utime(path, ns=(identity.mtime_ns, identity.mtime_ns + 1_000_000_000))
    with pytest.raises(ReadError, match="changed or replaced"):
        source.check()
    source.close()
    with pytest.raises(ReadError, match="changed or replaced"):
        FileSource(path, identity, Registry())


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "a.safetensors", {"a": torch.ones(50)})
    identity = identity_of(path)
    path.unlink()
    with pytest.raises(ReadError, match="cannot be opened"):
        FileSource(path, identity, Registry())


def test_ram_is_read_like_a_file() -> None:
    tensor = random_tensor((40, 5), torch.float32)
    source = MemorySource(tensor)
    target = bytearray(60)
    source.read_into(20, memoryview(target))
    source.check()
    source.close()
    assert bytes(target) == raw_bytes(tensor)[20:80]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=8), st.data())
def test_several_in_ram_are_one_after_the_other(sizes: list[int], data: st.DataObject) -> None:
    tensors = [random_tensor((size,), torch.uint8, size) for size in sizes]
    source = MemorySource()
    starts = [source.add(tensor) for tensor in tensors]
    end = starts[-1] + sizes[-1]
    whole = bytearray(end)
    for start, tensor in zip(starts, tensors, strict=True):
        assert start % 64 == 0
        whole[start : start + tensor.nbytes] = raw_bytes(tensor)
    first = data.draw(st.integers(0, end - 1))
    target = bytearray(data.draw(st.integers(1, end - first)))
    source.read_into(first, memoryview(target))
    assert target == whole[first : first + len(target)]
