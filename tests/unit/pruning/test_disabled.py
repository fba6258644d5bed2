"""What our button added is remembered exactly."""

from __future__ import annotations

from pathlib import Path

import pytest

from flux_speedup.pruning.disabled import FILE, Remembered


def test_names_survive_and_an_empty_list_leaves_no_file(tmp_path: Path) -> None:
    kept = Remembered(tmp_path / "new")
    assert kept.names() == ()
    kept.write(["a", "ü"])
    assert Remembered(tmp_path / "new").names() == ("a", "ü")
    kept.write([])
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", '{"added": 3}', '{"added": ["a", 3]}', "\x00"])
def test_a_broken_file_holds_what_can_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert set(Remembered(tmp_path).names()) <= {"a"}


def test_without_a_folder_nothing_can_be_remembered() -> None:
    assert Remembered(None).names() == ()
    with pytest.raises(OSError, match="no data folder"):
        Remembered(None).write(["a"])
