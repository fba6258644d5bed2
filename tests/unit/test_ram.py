"""RAM of the process, of the machine, and of the container it runs in."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from flux_speedup import ram


def test_this_process_has_memory_of_its_own() -> None:
    found = ram.anonymous()
    if sys.platform == "linux":
        assert found is not None
        assert 1 << 20 < found < psutil.virtual_memory().total


def test_what_the_system_does_not_say_is_not_known(tmp_path: Path) -> None:
    assert ram.anonymous(tmp_path / "none") is None
    for line in ("RssFile: 3 kB", "RssAnon:", "RssAnon: many kB"):
        (tmp_path / "status").write_text(f"Name: python\n{line}\n")
        assert ram.anonymous(tmp_path / "status") is None


def test_bytes_come_from_kilobytes(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name: x\nRssAnon:\t     200 kB\n")
    if sys.platform != "win32":
        assert ram.anonymous(tmp_path / "status") == 200 * 1024


def test_the_machine_counts_where_there_is_no_container(tmp_path: Path) -> None:
    available, total = ram.available_and_total(tmp_path)
    assert total == psutil.virtual_memory().total
    assert available is not None
    assert 0 < available <= total


def test_a_container_counts_where_it_is_smaller(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    assert ram.available_and_total(tmp_path) == (100000, 1000000)
    (tmp_path / "memory.stat").write_text("anon 5\nactive_file 300000\ninactive_file 50000\n")
    assert ram.available_and_total(tmp_path) == (450000, 1000000)


@pytest.mark.parametrize("limit", ["max", "", str(1 << 60)])
def test_a_container_without_a_limit_is_the_machine(tmp_path: Path, limit: str) -> None:
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text("5")
    assert ram.available_and_total(tmp_path)[1] == psutil.virtual_memory().total
