"""Free RAM: of the machine and of every control group, whichever says least."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_speedup.ram import system
from flux_speedup.ram.free import Free, read
from tests.unit.ram.trees import KB, NO_LIMIT_V1, Tree, v1, v2

MACHINE = Free(48_000 * KB, 64_000 * KB)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_the_machine_counts_where_there_are_no_groups(tree: Tree) -> None:
    assert read(proc=tree.proc) == MACHINE
    assert read(8 * KB, tree.proc) == Free(MACHINE.available - 8 * KB, MACHINE.total)
    assert read(1 << 50, tree.proc) == Free(0, MACHINE.total)


def test_this_machine_has_some() -> None:
    found = read()
    assert found is not None
    assert 0 < found.available <= found.total <= psutil.virtual_memory().total


@pytest.mark.parametrize("version", [1, 2])
def test_a_group_counts_where_it_is_smaller_and_its_file_pages_can_go(tree: Tree, version: int) -> None:
    point = tree.mount(version)
    tree.is_in("4:cpu,memory:/box" if version == 1 else "0::/box")
    (v1 if version == 1 else v2)(point / "box", 1_000_000, 900_000, 350_000)
    assert read(proc=tree.proc) == Free(450_000, 1_000_000)
    # Registered pages of files do not go, though the kernel counts them among those that would.
    assert read(300_000, tree.proc) == Free(150_000, 1_000_000)
    assert read(400_000, tree.proc) == Free(50_000, 1_000_000)


@pytest.mark.parametrize("version", [1, 2])
def test_the_smallest_of_all_groups_above_counts(tree: Tree, version: int) -> None:
    make = v1 if version == 1 else v2
    point = tree.mount(version)
    tree.is_in("4:memory:/a/b/c" if version == 1 else "0::/a/b/c")
    make(point / "a/b/c", 20_000_000, 1_000_000)
    make(point / "a/b", 30_000_000, 29_000_000)  # others in it have taken nearly all
    make(point / "a", 25_000_000, 1_000_000)
    assert read(proc=tree.proc) == Free(1_000_000, 20_000_000)
    make(point / "a", 500_000, 400_000)
    assert read(proc=tree.proc) == Free(100_000, 500_000)


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_sees_its_own_group_as_the_mount(tree: Tree, version: int) -> None:
    """With a namespace of its own it is in "/"; without one the mount's root has the group's name."""
    make = v1 if version == 1 else v2
    line = "4:memory:{}" if version == 1 else "0::{}"
    point = tree.mount(version, root="/docker/0123")
    make(point, 1_000_000, 600_000)
    for place in ("/docker/0123", "/", "/../0123", "/elsewhere"):
        tree.is_in(line.format(place))
        assert read(proc=tree.proc) == Free(400_000, 1_000_000)


def test_version_1_tells_of_limits_above_that_cannot_be_seen(tree: Tree) -> None:
    tree.is_in("4:memory:/")
    v1(tree.mount(1), NO_LIMIT_V1, 600_000, above=1_000_000)
    assert read(proc=tree.proc) == Free(400_000, 1_000_000)


def test_no_limit_is_the_machine(tree: Tree) -> None:
    tree.is_in("4:memory:/a", "1:name=systemd:/a", "0::/a")
    v2(tree.mount(2, "unified") / "a", "max", 5)
    v1(tree.mount(1) / "a", NO_LIMIT_V1, 5)
    assert read(proc=tree.proc) == MACHINE
    v2(tree.mount(2, "unified") / "a", 1 << 60, 5)
    assert read(proc=tree.proc) == MACHINE


def test_both_versions_count_where_both_are_mounted(tree: Tree) -> None:
    tree.is_in("4:memory:/a", "0::/a")
    v1(tree.mount(1) / "a", 2_000_000, 1_000_000)
    v2(tree.mount(2, "unified") / "a", 2_000_000, 1_500_000)
    assert read(proc=tree.proc) == Free(500_000, 2_000_000)


def test_above_its_soft_limit_a_group_only_crawls(tree: Tree) -> None:
    tree.is_in("0::/a")
    v2(tree.mount(2) / "a", 2_000_000, 1_000_000, high=1_200_000)
    assert read(proc=tree.proc) == Free(200_000, 1_200_000)


def test_what_is_missing_or_spoilt_is_passed_over(tree: Tree) -> None:
    tree.is_in("0::/a/b", "no line of a group")
    point = tree.mount(2)
    v2(point / "a", 1_000_000, 600_000)
    assert read(proc=tree.proc) == Free(400_000, 1_000_000)  # the folder of b cannot be seen
    (point / "a/memory.stat").write_bytes(b"\xff\xfe\nactive_file many\ninactive_file\n")
    assert read(proc=tree.proc) == Free(400_000, 1_000_000)
    (point / "a/memory.current").unlink()
    assert read(proc=tree.proc) == Free(1_000_000, 1_000_000)
    (point / "a/memory.max").write_text("")
    assert read(proc=tree.proc) == MACHINE
    (tree.proc / "self/mountinfo").write_text("a b c\n - cgroup2\n")
    assert read(proc=tree.proc) == MACHINE


def test_without_proc_psutil_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(available=700, total=1000)
    monkeypatch.setattr(system, "psutil", lambda: SimpleNamespace(virtual_memory=lambda: memory))
    assert read(proc=tmp_path) == Free(700, 1000)
    assert read(600, tmp_path) == Free(100, 1000)
    monkeypatch.setattr(system, "psutil", lambda: None)
    assert read(proc=tmp_path) is None


@settings(deadline=None, max_examples=100)
@given(
    levels=st.lists(
        st.tuples(
            st.one_of(st.just("max"), st.integers(0, 100_000 * KB)),
            st.integers(0, 100_000 * KB),
            st.integers(0, 100_000 * KB),
        ),
        max_size=4,
    ),
    held=st.integers(0, 100_000 * KB),
    version=st.sampled_from([1, 2]),
)
def test_never_more_than_any_limit_leaves(
    tmp_path_factory: pytest.TempPathFactory, levels: list[tuple[object, int, int]], held: int, version: int
) -> None:
    tree = Tree(tmp_path_factory.mktemp("t"))
    point = tree.mount(version)
    place = "/".join(f"g{n}" for n in range(len(levels)))
    tree.is_in(f"4:memory:/{place}" if version == 1 else f"0::/{place}")
    for depth, (limit, used, files) in enumerate(levels):
        folder = point / "/".join(f"g{n}" for n in range(depth + 1))
        if version == 2:
            v2(folder, limit, used, min(files, used))
        else:
            v1(folder, limit if isinstance(limit, int) else NO_LIMIT_V1, used, min(files, used))
    found = read(held, tree.proc)
    assert found is not None
    assert 0 <= found.available <= found.total <= MACHINE.total
    assert found.available <= max(0, MACHINE.available - held)
    for limit, used, files in levels:
        if isinstance(limit, int):
            assert found.total <= limit
            assert found.available <= max(0, limit - used + min(files, used) - held)
