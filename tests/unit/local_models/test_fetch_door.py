"""fetch.py as people run it: processes of its own, killed, run twice, in a Python without any package."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flux_speedup.local_models.catalog import Catalog
from flux_speedup.local_models.places import data_folder, models_folder
from tests.unit.local_models.files import CONTENT, put, sha256
from tests.unit.local_models.server import File, drip, serving, status, until, whole
from tests.waiting import PATIENCE_S

EXTENSION = Path(__file__).resolve().parents[3] / "extensions" / "flux-speedup"
BIG = CONTENT * 40


class Door:
    """A catalog of a user's own with a.pt and b.pth on a server, and the command that fetches them."""

    def __init__(self, url: str, files: dict[str, File], folder: Path) -> None:
        self.files = files
        self.models = folder / "models"
        self.config = folder / "own.json"
        rows = [
            {"file": name, "kind": kind, "url": f"{url}/{name}", "bytes": len(BIG), "sha256": sha256(BIG)}
            for name, kind in (("a.pt", "adetailer"), ("b.pth", "esrgan"))
        ]
        self.config.write_text(json.dumps({"catalog": {"weights": rows}}))
        for name in ("a.pt", "b.pth"):
            files[f"/{name}"] = File(BIG, [whole])

    def start(self, *arguments: str, extension: Path = EXTENSION) -> subprocess.Popen[str]:
        # -S: no installed package is there to lean on.
        command = [
            sys.executable,
            "-S",
            str(extension / "fetch.py"),
            *arguments,
            "--config",
            str(self.config),
        ]
        environ = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and k != "PYTHONPATH"}
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ,
            cwd=self.models.parent,
        )

    def run(self, *arguments: str, dest: bool = True) -> tuple[int, str, str]:
        process = self.start(*arguments, *(["--dest", str(self.models)] if dest else []))
        said, progress = process.communicate(timeout=PATIENCE_S)
        return process.returncode, said, progress

    def there(self) -> list[str]:
        return sorted(p.relative_to(self.models).as_posix() for p in self.models.rglob("*") if p.is_file())


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    files: dict[str, File] = {}
    with serving(files) as url:
        yield Door(url, files, tmp_path)


def test_fetches_what_is_named_and_says_so_in_a_table(door: Door) -> None:
    code, said, progress = door.run("a.pt", "b")
    assert code == 0, progress
    assert door.there() == ["ESRGAN/b.pth", "adetailer/a.pt"]
    assert (door.models / "ESRGAN" / "b.pth").read_bytes() == BIG
    rows = [line.split() for line in said.splitlines()]
    assert rows[1][:2] == ["a.pt", "fetched"]
    assert rows[2][:2] == ["b.pth", "fetched"]
    assert said.splitlines()[-1] == "2 of 2 are there"
    code, said, _ = door.run("a.pt", "b.pth")
    assert (code, said.count("present")) == (0, 2)
    assert len(door.files["/a.pt"].ranges) == 1


def test_one_that_fails_is_exit_code_1_and_the_others_are_there(door: Door) -> None:
    door.files["/b.pth"].acts = [status(404)]
    code, said, _ = door.run("a.pt", "b.pth")
    assert code == 1
    assert door.there() == ["adetailer/a.pt"]
    assert "failed" in said
    assert "404" in said
    assert "1 of 2 are there" in said


def test_verify_looks_and_fetches_nothing(door: Door) -> None:
    put(door.models / "adetailer", "a.pt", BIG)
    code, said, _ = door.run("--verify", "a.pt", "b.pth")
    assert code == 1
    assert [line.split()[1] for line in said.splitlines()[1:3]] == ["present", "missing"]
    assert door.files["/b.pth"].ranges == []
    assert door.run("--verify", "a.pt")[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [[], ["c.pt"], ["a.pt", "../a.pt"], ["--jobs", "0", "a.pt"], ["--mirror", "file:///etc", "a.pt"]],
)
def test_wrong_usage_is_exit_code_2_with_a_word_of_help(door: Door, arguments: list[str]) -> None:
    code, said, help_ = door.run(*arguments)
    assert code == 2
    assert said == ""
    assert "usage" in help_
    assert not door.models.exists()


def test_all_is_the_whole_catalog(door: Door) -> None:
    code, said, _ = door.run("--all", "--verify")
    assert code == 1
    assert said.splitlines()[-1] == "0 of 11 are there"


def test_without_a_webui_around_it_the_destination_must_be_given(door: Door) -> None:
    code, _, said = door.run("a.pt", dest=False)
    assert code == 2
    assert "--dest" in said


def test_inside_a_webui_its_models_folder_is_the_destination(door: Door, tmp_path: Path) -> None:
    inside = tmp_path / "webui" / "extensions" / "clone" / "extensions" / "flux-speedup"
    shutil.copytree(EXTENSION, inside, ignore=shutil.ignore_patterns("__pycache__"))
    door.models = tmp_path / "webui" / "models"
    door.models.mkdir()
    process = door.start("a.pt", extension=inside)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    assert door.there() == ["adetailer/a.pt"]


def test_where_weights_go(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    extension = tmp_path / "extensions" / "flux-speedup"
    extension.mkdir(parents=True)
    assert data_folder(extension) == tmp_path
    assert data_folder(tmp_path) is None
    flags = {"COMMANDLINE_ARGS": "--api --models-dir /elsewhere"}
    assert models_folder(Catalog(), tmp_path, {}) == tmp_path / "models"
    assert models_folder(Catalog(), tmp_path, flags) == Path("/elsewhere")
    assert models_folder(Catalog(folder=Path("/own")), tmp_path, flags) == Path("/own")
    assert models_folder(Catalog(), None, {}) is None
    assert models_folder(Catalog(), tmp_path, {"COMMANDLINE_ARGS": "--models-dir"}) == tmp_path / "models"


def wait_for(path: Path, size: int) -> None:
    end = time.monotonic() + 30
    while not path.exists() or path.stat().st_size < size:
        assert time.monotonic() < end, f"{path} did not grow to {size} bytes"
        time.sleep(0.01)


@pytest.fixture
def ctrl_c_counts() -> Iterator[None]:
    """Whoever runs the tests in the background ignores SIGINT, and what they start would do so too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("blow", ["SIGKILL", "SIGINT"])
@pytest.mark.usefixtures("ctrl_c_counts")
def test_ended_in_the_middle_and_run_again_it_goes_on(door: Door, blow: str) -> None:
    file = door.files["/a.pt"]
    file.acts = [drip(20_000, 0.05), whole]
    process = door.start("a.pt", "--dest", str(door.models), "--jobs", "1")
    part = door.models / "adetailer" / ".a.pt.part"
    wait_for(part, 60_000)
    process.send_signal(getattr(signal, blow))
    process.communicate(timeout=PATIENCE_S)
    assert not (door.models / "adetailer" / "a.pt").exists()
    have = part.stat().st_size
    assert 60_000 <= have < len(BIG)
    code, said, progress = door.run("a.pt")
    assert code == 0, said + progress
    assert file.ranges == [None, f"bytes={have}-"]
    assert door.there() == ["adetailer/a.pt"]
    assert (door.models / "adetailer" / "a.pt").read_bytes() == BIG


def test_two_at_once_fetch_once_and_both_are_content(door: Door) -> None:
    file = door.files["/a.pt"]
    waits = threading.Event()
    file.acts = [until(waits)]
    first = door.start("a.pt", "--dest", str(door.models))
    wait_for(door.models / "adetailer" / ".a.pt.part", 1)
    second = door.start("a.pt", "--dest", str(door.models))
    assert second.stderr is not None
    told = ""
    while "another process" not in told:
        letter = second.stderr.read(1)
        assert letter, told
        told += letter
    waits.set()
    said = [process.communicate(timeout=PATIENCE_S) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), said
    assert len(file.ranges) == 1
    assert "fetched" in said[0][0]
    assert "present" in said[1][0]
    assert door.there() == ["adetailer/a.pt"]


class Start:
    """The extension in a WebUI's folder, and its install.py as the WebUI runs it."""

    def __init__(self, folder: Path) -> None:
        self.extension = folder / "webui" / "extensions" / "flux-speedup"
        shutil.copytree(EXTENSION, self.extension, ignore=shutil.ignore_patterns("__pycache__"))
        # Only the user's own weights: the shipped ones would be asked for at their real sources.
        shipped = json.loads((self.extension / "config.json").read_text())
        shipped["catalog"]["weights"] = []
        (self.extension / "config.json").write_text(json.dumps(shipped))
        (folder / "webui" / "models").mkdir()

    def run(self, config: Path, **environ: str) -> str:
        kept = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
        done = subprocess.run(
            [sys.executable, "-S", str(self.extension / "install.py")],
            capture_output=True,
            text=True,
            check=True,
            env={**kept, "FLUX_SPEEDUP_CONFIG": str(config), **environ},
        )
        return done.stdout + done.stderr


def test_at_start_missing_weights_are_fetched_only_where_that_is_turned_on(
    door: Door, tmp_path: Path
) -> None:
    start = Start(tmp_path)
    put(tmp_path / "webui" / "models" / "ESRGAN", "b.pth", BIG)
    assert start.run(door.config) == ""
    assert start.run(door.config, FLUX_SPEEDUP_FETCH_AT_START="on", FLUX_SPEEDUP_ENABLED="off") == ""
    assert door.files["/a.pt"].ranges == []
    said = start.run(door.config, FLUX_SPEEDUP_FETCH_AT_START="on")
    assert "1 of 1 are there" in said
    assert (tmp_path / "webui" / "models" / "adetailer" / "a.pt").read_bytes() == BIG
    assert door.files["/b.pth"].ranges == []
    assert start.run(door.config, FLUX_SPEEDUP_FETCH_AT_START="on") == ""


def test_a_start_goes_on_where_nothing_comes(door: Door, tmp_path: Path) -> None:
    door.files["/a.pt"].acts = [status(404)]
    said = Start(tmp_path).run(door.config, FLUX_SPEEDUP_FETCH_AT_START="on")
    assert "404" in said
    assert "1 of 2 are there" in said
