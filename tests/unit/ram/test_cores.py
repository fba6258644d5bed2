"""Processors this process may use: never more than its affinity, its quota or any quota above it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flux_speedup.ram.groups import cpu_quota
from flux_speedup.ram.process import cores
from tests.unit.ram.trees import Tree, group


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    return Tree(tmp_path)


def test_the_affinity_counts_where_there_is_no_quota(tree: Tree) -> None:
    assert cores(tree.proc) == 16
    tree.is_in("0::/a")
    group(tree.mount(2) / "a", {"cpu.max": "max 100000"})
    assert cores(tree.proc) == 16


@pytest.mark.parametrize(
    ("quota", "count"),
    [("400000 100000", 4), ("250000 100000", 2), ("50000 100000", 1), ("9900000 100000", 16), ("", 16)],
)
def test_a_quota_of_version_2(tree: Tree, quota: str, count: int) -> None:
    tree.is_in("0::/a")
    group(tree.mount(2) / "a", {"cpu.max": quota})
    assert cores(tree.proc) == count


@pytest.mark.parametrize(("quota", "count"), [(300000, 3), (-1, 16), (0, 16)])
def test_a_quota_of_version_1(tree: Tree, quota: int, count: int) -> None:
    tree.is_in("2:cpu,cpuacct:/a/b")
    point = tree.mount(1, "cpu")
    group(point / "a/b", {"cpu.cfs_quota_us": quota, "cpu.cfs_period_us": 100000})
    assert cores(tree.proc) == count


def test_the_smallest_quota_of_all_groups_above_counts(tree: Tree) -> None:
    tree.is_in("0::/a/b")
    point = tree.mount(2)
    group(point / "a/b", {"cpu.max": "800000 100000"})
    group(point / "a", {"cpu.max": "200000 100000"})
    assert cpu_quota(tree.proc) == 2.0
    assert cores(tree.proc) == 2


def test_where_there_is_no_affinity_all_processors_count(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cores(tree.proc) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores(tree.proc) == 1
