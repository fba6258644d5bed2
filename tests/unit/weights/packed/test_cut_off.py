"""Packing that ends at any moment: killed at every step on the disk, or in the middle of writing; a full disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import flux_speedup
from tests.unit.weights.packed.packing_of import Loading, pack, room_in

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL, no limit on a file's size")

PACKAGE = Path(flux_speedup.__file__).parents[1]
PROCESS = """
import os, signal, sys
from pathlib import Path
path, folder = Path(sys.argv[1]), Path(sys.argv[2])
sys.path.insert(0, sys.argv[3])
from flux_speedup.weights.packed.packing import packing
from flux_speedup.weights.packed.room import Room


def pack(into):
    for _ in packing(path, Room(into, 1 << 40, free=lambda _: 1 << 50)):
        pass


def in_a_fork(act):
    if (child := os.fork()) == 0:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]
"""
AT_EACH_EVENT = """
def killed_at(number, into):
    def look(event, arguments, left=[number]):
        if event in ("open", "os.rename", "os.remove", "os.truncate", "os.mkdir") and str(into) in repr(arguments):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)
    pack(into)

number = 1
while os.WIFSIGNALED(in_a_fork(lambda: killed_at(number, folder / str(number)))):
    number += 1
"""
IN_WRITING = """
import resource

def limited(size, action, into):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    signal.signal(signal.SIGXFSZ, action)
    pack(into)

for size in range(3000, 1_100_000, 73_000):
    status = in_a_fork(lambda: limited(size, getattr(signal, sys.argv[4]), folder / str(size)))
    print(size, "killed" if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
"""


def cut_off(folder: Path, script: str, *more: str) -> tuple[Loading, list[Path], list[list[str]]]:
    """A weight file, and folders in each of which a process was packing it until it ended in another way."""
    loading = Loading.of(folder)
    words = [sys.executable, "-W", "ignore", "-c", PROCESS + script, loading.path, folder / "cut"]
    words += [PACKAGE, *more]
    done = subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True)
    return loading, sorted((folder / "cut").iterdir()), [line.split() for line in done.stdout.splitlines()]


def is_right_in_the_end(loading: Loading, folder: Path, right: dict[str, bytes]) -> bool:
    """Whatever is in the folder: it counts only where it is right, it is gone on with, and nothing else stays."""
    loading.folder = folder
    loading.store.use(folder)
    before = loading.load()[0]
    room = room_in(folder)
    room.sweep()
    pack(loading.path, room)
    loading.store.look_again()
    after, read = loading.load()
    left = sorted(file.name for file in folder.iterdir() if ".index" not in file.name)
    return before == after == right and left == [loading.places.packed.name] and loading.places.packed in read


def test_killed_at_every_step_on_the_disk(tmp_path: Path) -> None:
    loading, folders, _ = cut_off(tmp_path, AT_EACH_EVENT)
    right = loading.load()[0]
    assert len(folders) > 10
    assert [folder.name for folder in folders if not is_right_in_the_end(loading, folder, right)] == []


def test_killed_in_the_middle_of_writing(tmp_path: Path) -> None:
    loading, folders, ends = cut_off(tmp_path, IN_WRITING, "SIG_DFL")
    right = loading.load()[0]
    assert {end for _, end in ends} == {"killed", "0"}
    sizes = {file.stat().st_size for folder in folders for file in folder.glob("*.packed")}
    assert len(sizes) > 5
    assert [folder.name for folder in folders if not is_right_in_the_end(loading, folder, right)] == []


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """Nothing of what did not fit stays there, and nothing counts."""
    loading, folders, ends = cut_off(tmp_path, IN_WRITING, "SIG_IGN")
    right = loading.load()[0]
    assert {end for _, end in ends} == {"1", "0"}
    for folder, (_, end) in zip(sorted(folders, key=lambda each: int(each.name)), ends, strict=True):
        assert {file.suffix for file in folder.iterdir()} == ({".packed", ".index"} if end == "0" else set())
        assert is_right_in_the_end(loading, folder, right)


def test_two_processes_at_once(tmp_path: Path) -> None:
    """One of them makes it, the other leaves it alone."""
    loading = Loading.of(tmp_path)
    right = loading.load()[0]
    script = f"{PROCESS}\npack(folder)"
    words = [sys.executable, "-W", "ignore", "-c", script, loading.path, loading.folder, PACKAGE]
    both = [subprocess.Popen([str(w) for w in words], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert any(process.returncode == 0 for process in both)
    assert all("another process packs it" in words for words in said if words)
    loading.store.look_again()
    found, read = loading.load()
    assert found == right
    assert loading.places.packed in read
    assert pack(loading.path, room_in(loading.folder)) == ["packed"]
