"""What is read of a small JSON file: an object, or an error; never for ever, and never more than fits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flux_speedup.pruning.disabled import FILE, Remembered
from flux_speedup.storage import json_file
from flux_speedup.storage.sidecar import Sidecar, Stamp

SPOILED = {
    "list": "[1]",
    "half": '{"a"',
    "deep": "[" * 100_000,
    "big": f'{{"a": "{"x" * 200}"}}',
    "bytes": "\udcff",
}


def test_an_object_is_read_with_or_without_a_mark_of_its_encoding(tmp_path: Path) -> None:
    for mark in ("", "\ufeff"):
        (tmp_path / "file").write_text(f'{mark}{{"a": 1}}', encoding="utf-8")
        assert json_file.read(tmp_path / "file") == {"a": 1}


@pytest.mark.parametrize("text", SPOILED.values(), ids=SPOILED)
def test_whatever_else_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ValueError, match=r"."):
        json_file.read(tmp_path / "file", most=100)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_what_is_kept_in_a_device_is_not_read_for_ever(tmp_path: Path) -> None:
    for name in (FILE, "digests.json"):
        (tmp_path / name).symlink_to("/dev/full")
    stamp = Stamp.of(Path(os.__file__))
    assert stamp is not None
    digests = Sidecar(tmp_path / "digests.json")
    digests.put(Path(os.__file__), stamp, "0" * 64)
    assert digests.get(Path(os.__file__), stamp) == "0" * 64
    assert Remembered(tmp_path).names() == ()
