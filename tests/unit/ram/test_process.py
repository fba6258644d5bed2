"""RAM of this process alone."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from flux_speedup.ram import process
from flux_speedup.ram.process import anonymous


def test_this_process_has_memory_of_its_own() -> None:
    found = anonymous()
    if sys.platform == "linux":
        assert found is not None
        assert 1 << 20 < found < psutil.virtual_memory().total


def test_what_the_system_does_not_say_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert anonymous(tmp_path / "none") is None
    for line in ("RssFile: 3 kB", "RssAnon:", "RssAnon: many kB"):
        (tmp_path / "status").write_text(f"Name: python\n{line}\n")
        assert anonymous(tmp_path / "status") is None


def test_bytes_come_from_kilobytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    (tmp_path / "status").write_text("Name: x\nRssAnon:\t     200 kB\n")
    assert anonymous(tmp_path / "status") == 200 * 1024


def test_on_windows_psutil_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    memory = SimpleNamespace(memory_info=lambda: SimpleNamespace(private=77))
    monkeypatch.setattr(process, "psutil", lambda: SimpleNamespace(Process=lambda: memory))
    assert anonymous() == 77
    monkeypatch.setattr(process, "psutil", lambda: None)
    assert anonymous() is None
