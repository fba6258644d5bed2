"""Memory is short while a file is mapped: what is kept is given up, and no good file is renamed by the host."""

from __future__ import annotations

import errno
import json
import mmap
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

import flux_speedup
from flux_speedup.hosts.common import corrupted
from flux_speedup.weights.errors import MappingError
from flux_speedup.weights.files import mapping as mappings
from flux_speedup.weights.files.mapping import Registry
from tests.unit.weights.weight_files import raw_bytes, write_weights

ROOT = str(Path(flux_speedup.__file__).parents[1])
BIG = 3 << 30
linux = pytest.mark.skipif(sys.platform != "linux", reason="sets a limit as ulimit -v does")


def sparse(path: Path, size: int = BIG) -> Path:
    """A sound file of 3 GB that takes no room."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    return path


def run(code: str, *arguments: str, path: str = ROOT) -> Any:
    """Run in a process of its own, which can `limit` how much more address space it takes; its answer."""
    head = f"""
        import gc, json, sys, warnings
        warnings.simplefilter("ignore")
        from pathlib import Path
        sys.path[:0] = {path.split(":")!r}
        a, b = map(Path, sys.argv[1:3])
        def limit(more):
            import resource
            used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
            resource.setrlimit(resource.RLIMIT_AS, (used + more, resource.RLIM_INFINITY))
        """
    source = textwrap.dedent(head) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", source, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@linux
def test_what_is_kept_makes_room_for_what_is_opened(tmp_path: Path) -> None:
    a, b = sparse(tmp_path / "a.safetensors"), sparse(tmp_path / "b.safetensors")
    seen = run(
        """
        from flux_speedup.weights.errors import MappingError
        from flux_speedup.weights.files.mapping import Registry
        registry = Registry()
        kept = [registry.open(a).views()]
        limit(2 << 30)
        said = []
        try:
            registry.open(b)
        except MappingError as error:
            said.append(str(error))
        registry.make_room = lambda: bool(kept) and (kept.clear() or gc.collect() >= 0)
        said.append(len(registry.open(b).views()["a"]))
        print(json.dumps(said))
        """,
        str(a),
        str(b),
    )
    assert "b.safetensors: cannot be mapped" in seen[0]
    assert seen[1] == BIG


@linux
@pytest.mark.forge
def test_forges_own_loader_renames_no_file_for_which_memory_was_short(
    tmp_path: Path, forge_dir: Path
) -> None:
    a, b = sparse(tmp_path / "a.safetensors"), sparse(tmp_path / "b.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights at all")
    seen = run(
        """
        import safetensors.torch
        from modules_forge.patch_basic import build_loaded
        from flux_speedup.hosts.common import corrupted
        build_loaded(safetensors.torch, "load_file")
        hosts = safetensors.torch.load_file
        kept = [hosts(str(a))]
        limit(4 << 30)  # the library maps a file twice
        change, _ = corrupted.changes(lambda: bool(kept) and (kept.clear() or gc.collect() >= 0))
        ours = change.make(hosts)
        said = [len(ours(str(b))["a"])]
        for file in (b, Path(sys.argv[3])):
            try:
                limit(1 << 30)
                ours(str(file))
            except Exception as error:
                said.append(f"{type(error).__name__}: {error}")
        print(json.dumps(said))
        """,
        str(a),
        str(b),
        str(broken),
        path=f"{ROOT}:{forge_dir}",
    )
    assert seen[0] == BIG
    assert "memory" in seen[1].lower()
    assert "corrupted" not in seen[1].lower()
    assert a.exists()
    assert b.exists()
    assert "File corrupted" in seen[2]  # the host's own answer, where the file is to blame
    assert not broken.exists()


def test_the_host_gets_the_name_as_it_was_where_the_file_is_to_blame(tmp_path: Path) -> None:
    given: list[Any] = []

    def load_file(filename: Any, device: str = "cpu") -> None:
        given.append(filename)
        raise ValueError("header too large")

    change, _ = corrupted.changes(lambda: True)
    with pytest.raises(ValueError, match="header too large"):
        change.make(load_file)(str(tmp_path / "a"))
    assert given == [tmp_path / "a", str(tmp_path / "a")]


def test_torch_load_is_told_likewise(tmp_path: Path) -> None:
    given: list[Any] = []
    room = [True, False]

    def load(*args: Any, **kwargs: Any) -> str:
        given.append((args, kwargs))
        if len(given) == 1:
            raise MemoryError
        return "weights"

    _, change = corrupted.changes(lambda: room.pop(0))
    ours = change.make(load)
    assert ours("a.pt", map_location="cpu") == "weights"
    assert given == [((Path("a.pt"),), {"map_location": "cpu"})] * 2
    given.clear()
    with pytest.raises(MemoryError):
        ours("a.pt")
    assert given == [((Path("a.pt"),), {})]
    buffer = object()
    assert ours(buffer, weights_only=True) == "weights"
    assert ours(f="a.pt") == "weights"
    assert given[1:] == [((buffer,), {"weights_only": True}), ((), {"f": "a.pt"})]


def test_a_second_try_that_fails_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    registry, asked = Registry(), []
    registry.make_room = lambda: bool(asked.append(1)) or True
    monkeypatch.setattr(mappings, "mapped", short)
    with pytest.raises(MappingError, match="Cannot allocate"):
        registry.open(write_weights(tmp_path / "a.safetensors", {"a": torch.ones(9)}))
    assert asked == [1]


@linux
def test_on_windows_a_mapping_is_read_only_and_charged_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    real = mmap.mmap

    def mapped(*args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs)
        return real(*args, **kwargs)

    monkeypatch.setattr(mmap, "mmap", mapped)
    path = write_weights(tmp_path / "a.safetensors", {"a": torch.arange(5000.0), "b": torch.ones(3).half()})
    monkeypatch.setattr(sys, "platform", "win32")
    mapping = Registry().open(path)
    views = mapping.views()
    assert asked == [{"access": mmap.ACCESS_READ}]
    assert raw_bytes(views["a"]) == raw_bytes(torch.arange(5000.0))
    assert views["b"].tolist() == [1.0] * 3
    assert views["a"].untyped_storage().nbytes() == 20_000
    assert mapping.written() == []
