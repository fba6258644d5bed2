"""What install.py does: it leaves a process that reads and hashes what is selected, and waits for nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from flux_speedup import at_install
from flux_speedup.local_models.selected import Flags, is_hashed, selected
from flux_speedup.weights.files import early_hashing
from tests.waiting import eventually

EXTENSION = Path(__file__).resolve().parents[2] / "extensions" / "flux-speedup"
# As the WebUIs run it: through a shell, its output read until everybody has closed it.
LAUNCH = """
import subprocess, sys
done = subprocess.run(f'"{sys.executable}" "INSTALLER"', shell=True, capture_output=True, text=True)
print(done.returncode, done.stdout, done.stderr)
"""


@pytest.fixture
def webui(tmp_path: Path) -> Path:
    """A WebUI's folder, with our extension and a checkpoint that is selected."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(EXTENSION, tmp_path / "extensions" / "flux-speedup", ignore=ignored)
    models = tmp_path / "models" / "Stable-diffusion" / "sub"
    models.mkdir(parents=True)
    (models / "a.safetensors").write_bytes(b"a" * 5000)
    options = {"sd_model_checkpoint": "sub/a.safetensors [0123456789]"}
    (tmp_path / "config.json").write_text(json.dumps(options), encoding="utf-8")
    return tmp_path


def started(webui: Path, monkeypatch: pytest.MonkeyPatch, *words: str, **environ: str) -> list[list[str]]:
    """The processes that would be started for a WebUI with this command line."""
    found: list[list[str]] = []
    monkeypatch.setattr(early_hashing, "start", lambda command: found.append(list(command)))
    monkeypatch.chdir(webui)

    class Launch:
        pid = 7

        def cmdline(self) -> list[str]:
            return ["python", "launch.py", *words]

        def create_time(self) -> float:
            return 8.0

    at_install.begin(webui / "extensions" / "flux-speedup", environ, Launch())
    return found


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of files that are not in RAM."""
    names: set[str] = set()
    monkeypatch.setattr(at_install, "is_cold", lambda path: path.name in names)
    return names


def test_a_process_is_left_that_hashes_what_is_selected(webui: Path) -> None:
    installer = webui / "extensions" / "flux-speedup" / "install.py"
    (webui / "launch.py").write_text(LAUNCH.replace("INSTALLER", installer.as_posix()))
    process = subprocess.Popen([sys.executable, "launch.py"], cwd=webui, stdout=subprocess.PIPE, text=True)
    said, _ = process.communicate(timeout=60)
    assert said.split() == ["0"]
    cache = webui / "cache" / "flux-speedup"
    checkpoint = webui / "models" / "Stable-diffusion" / "sub" / "a.safetensors"
    expected = hashlib.sha256(checkpoint.read_bytes()).hexdigest()

    def there() -> bool:
        file = cache / early_hashing.DIGESTS
        return (
            file.exists() and expected in file.read_text() and not early_hashing.is_at_work(cache, checkpoint)
        )

    assert eventually(there)
    assert eventually(lambda: not (cache / "hashing.json").exists())


def test_it_ends_when_its_webui_is_gone(webui: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(early_hashing, "work", lambda _path, _folder, wanted: asked.append(wanted()))
    monkeypatch.setattr(at_install, "step_back", lambda: None)  # it is a process of its own, and this is not
    me = psutil.Process()
    at_install.work(str(me.pid), str(me.create_time()), "b", "a")
    at_install.work(str(me.pid), str(me.create_time() - 100), "b", "a")  # another one has its number now
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    at_install.work(str(ended.pid), str(time.time()), "b", "a")
    assert asked == [True, False, False]


class Reading:
    """One that never ends by itself; what was done to it is in `done`."""

    done: list[str]

    def __init__(self, files: list[Path], *_: object, **__: object) -> None:
        self.done = [each.name for each in files]
        read.append(self)

    def start(self) -> None:
        self.done.append("start")

    def wait(self, _timeout: float) -> bool:
        return "stop" in self.done

    def stop(self) -> None:
        self.done.append("stop")


read: list[Reading] = []


def test_it_reads_no_more_once_its_webui_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    read.clear()
    monkeypatch.setattr(at_install, "ReadAhead", Reading)
    monkeypatch.setattr(at_install, "step_back", lambda: None)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    at_install.work(str(ended.pid), str(time.time()), "b", "", "t5", "one")
    assert [each.done for each in read] == [["t5", "one", "start", "stop"]]


def test_what_is_not_in_ram_is_read_in_the_order_in_which_it_is_needed(
    webui: Path, monkeypatch: pytest.MonkeyPatch, cold: set[str]
) -> None:
    files = [
        webui / "models" / each for each in ("VAE/ae.safetensors", "text_encoder/t5.gguf", "text_encoder/no")
    ]
    for file in files[:2]:
        file.parent.mkdir()
        file.write_bytes(b"more")
    options = json.loads((webui / "config.json").read_text())
    options["forge_additional_modules"] = [*map(str, files), 3]
    (webui / "config.json").write_text(json.dumps(options), encoding="utf-8")
    cold |= {"ae.safetensors", "t5.gguf", "no", "a.safetensors"}
    (command,) = started(webui, monkeypatch, "--no-hashing")
    checkpoint = webui / "models" / "Stable-diffusion" / "sub" / "a.safetensors"
    assert command[5:] == [
        str(webui / "cache" / "flux-speedup"), "", str(files[1]), str(checkpoint), str(files[0])
    ]  # fmt: skip
    cold -= {"t5.gguf"}
    assert started(webui, monkeypatch)[0][6:] == [str(checkpoint.resolve()), str(checkpoint), str(files[0])]
    for words in (["--flux-speedup-read-ahead", "off"], ["--flux-speedup-packed", "on"]):
        assert started(webui, monkeypatch, "--no-hashing", *words) == []


def test_what_is_hashed_follows_its_reading(webui: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(
        early_hashing, "work", lambda path, _folder, _wanted: said.append(f"hash {path.name}")
    )
    monkeypatch.setattr(at_install, "step_back", lambda: None)

    class Told(Reading):
        def __init__(self, files: list[Path], _needed: object, begins: Any, ended: Any) -> None:
            super().__init__(files)
            self._begins = begins

        def start(self) -> None:
            for name in self.done.copy():
                said.append(f"read {name}")
                self._begins(webui / name)
                time.sleep(0.05)
            self.done.append("stop")

    monkeypatch.setattr(at_install, "ReadAhead", Told)
    me = psutil.Process()
    who = str(me.pid), str(me.create_time()), "b"
    at_install.work(*who, str(webui / "one"), str(webui / "t5"), str(webui / "one"), str(webui / "ae"))
    assert [each for each in said if not each.endswith("ae")] == ["read t5", "read one", "hash one"]
    said.clear()
    at_install.work(*who, str(webui / "one"), str(webui / "t5"))
    assert sorted(said) == ["hash one", "read t5"]


def test_its_command_names_file_folder_and_webui(
    webui: Path, monkeypatch: pytest.MonkeyPatch, cold: set[str]
) -> None:
    (command,) = started(webui, monkeypatch)
    assert command[0] == sys.executable
    assert Path(command[1]) == webui / "extensions" / "flux-speedup" / "install.py"
    assert command[2:] == [
        "begin",
        "7",
        "8.0",
        str(webui / "cache" / "flux-speedup"),
        str((webui / "models" / "Stable-diffusion" / "sub" / "a.safetensors").resolve()),
    ]


@pytest.mark.parametrize(
    ("words", "environ"),
    [
        (["--no-hashing"], {}),
        (["--exit"], {}),
        ([], {"COMMANDLINE_ARGS": "--no-hashing"}),
        (["--flux-speedup-digest", "off"], {}),
        (["--flux-speedup-off"], {}),
        ([], {"FLUX_SPEEDUP_DIGEST": "off"}),
        (["--models-dir", "elsewhere"], {}),
        (["--ui-settings-file", "none.json"], {}),
    ],
)
def test_none_is_started_where_no_hash_is_wanted_or_nothing_is_known(
    webui: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], environ: dict[str, str], cold: set[str]
) -> None:
    assert started(webui, monkeypatch, *words, **environ) == []


def test_none_is_started_where_the_host_or_we_know_the_hash(
    webui: Path, monkeypatch: pytest.MonkeyPatch, cold: set[str]
) -> None:
    checkpoint = webui / "models" / "Stable-diffusion" / "sub" / "a.safetensors"
    cache = webui / "cache" / "flux-speedup"
    early_hashing.work(checkpoint.resolve(), cache, lambda: True)
    assert started(webui, monkeypatch) == []
    shutil.rmtree(cache)
    assert started(webui, monkeypatch) != []
    host = webui / "cache" / "hashes"
    host.mkdir()
    with sqlite3.connect(host / "cache.db") as made:
        made.execute("CREATE TABLE Cache (key, value)")
        made.execute("INSERT INTO Cache VALUES ('checkpoint/sub/a.safetensors', 'x')")
    made.close()
    assert is_hashed("sub/a.safetensors", webui, {})
    assert started(webui, monkeypatch) == []
    shutil.rmtree(host)
    hashes = {"hashes": {"checkpoint/sub/a.safetensors": {}}}
    (webui / "cache.json").write_text(json.dumps(hashes), encoding="utf-8")
    assert started(webui, monkeypatch) == []
    (webui / "cache.json").write_text("{", encoding="utf-8")
    assert started(webui, monkeypatch) != []


def test_flags_say_where_checkpoints_are(webui: Path) -> None:
    other = webui / "more"
    other.mkdir()
    (other / "b.safetensors").write_bytes(b"b")
    found = Flags.of(["--ckpt", "more/b.safetensors"], webui, webui)
    assert selected(found) == ("b.safetensors", other / "b.safetensors")
    (webui / "config.json").write_text('{"sd_model_checkpoint": "b.safetensors"}', encoding="utf-8")
    for flag in ("--ckpt-dir", "--ckpt-dirs"):
        assert selected(Flags.of([flag, "more"], webui, webui)) == ("b.safetensors", other / "b.safetensors")
    assert selected(Flags.of([], webui, webui)) is None
    for content in ("", "[]", "{", '{"sd_model_checkpoint": 3}', "null"):
        (webui / "config.json").write_text(content, encoding="utf-8")
        assert selected(Flags.of([], webui, webui)) is None
