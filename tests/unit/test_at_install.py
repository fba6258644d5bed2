"""What install.py does: it leaves a process behind that hashes the selected checkpoint, and waits for nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

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

    at_install.begin_hash(webui / "extensions" / "flux-speedup", environ, Launch())
    return found


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
    at_install.hash_one("a", "b", str(me.pid), str(me.create_time()))
    at_install.hash_one("a", "b", str(me.pid), str(me.create_time() - 100))  # another one has its number now
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    at_install.hash_one("a", "b", str(ended.pid), str(time.time()))
    assert asked == [True, False, False]


def test_its_command_names_file_folder_and_webui(webui: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = started(webui, monkeypatch)
    assert command[0] == sys.executable
    assert Path(command[1]) == webui / "extensions" / "flux-speedup" / "install.py"
    assert command[2:] == [
        "hash",
        str(webui / "models" / "Stable-diffusion" / "sub" / "a.safetensors"),
        str(webui / "cache" / "flux-speedup"),
        "7",
        "8.0",
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
    webui: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], environ: dict[str, str]
) -> None:
    assert started(webui, monkeypatch, *words, **environ) == []


def test_none_is_started_where_the_host_or_we_know_the_hash(
    webui: Path, monkeypatch: pytest.MonkeyPatch
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
