"""The WebUI's settings file: whole at every moment, and nothing of ours in it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flux_speedup.hosts.common import settings_file
from flux_speedup.hosts.common.webui import WebUI
from flux_speedup.patching.table import PatchTable, State

# As the WebUIs write it.
HOST = """
import json

class Options:
    def __init__(self):
        self.__dict__["data"] = {"forge_async_loading": "Queue", "samples": 1}
        self.__dict__["data_labels"] = {"forge_async_loading": None, "forge_inference_memory": None}

    def __getattr__(self, key):
        return self.data.get(key)

    def set(self, key, value, run_callbacks=True):
        self.data[key] = value

    def save(self, filename):
        assert "frozen" not in self.data, "saving settings is disabled"
        with open(filename, "w", encoding="utf8") as file:
            json.dump(self.data, file, indent=4, ensure_ascii=False)
"""


@pytest.fixture
def opts(monkeypatch: pytest.MonkeyPatch) -> Any:
    host, shared = ModuleType("modules.options"), ModuleType("modules.shared")
    exec(compile(HOST, "options.py", "exec"), vars(host))
    shared.opts = host.Options()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modules.options", host)
    monkeypatch.setitem(sys.modules, "modules.shared", shared)
    return shared.opts  # type: ignore[attr-defined]


@pytest.fixture
def table(opts: Any) -> Iterator[PatchTable]:
    made = PatchTable(logging.getLogger("flux_speedup.test"))
    made.add("settings_file", "Whole", "why", settings_file.changes())
    yield made
    made.put_back()


def saved(opts: Any, file: Path) -> Any:
    opts.save(str(file))
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    return json.loads(file.read_text(encoding="utf-8"))


def test_values_of_ours_are_in_force_and_in_no_file(opts, table, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    before = saved(opts, file)
    host = WebUI()
    table.add("streams", "S", "why", [host.options.change("forge_async_loading", "Async")])
    table.add("memory", "M", "why", [host.options.change("forge_inference_memory", 20000)])
    assert (opts.forge_async_loading, opts.forge_inference_memory) == ("Async", 20000)
    assert saved(opts, file) == before
    assert (opts.forge_async_loading, opts.forge_inference_memory) == ("Async", 20000)
    table.put_back(["streams"])
    assert saved(opts, file) == before
    table.put_back()
    assert saved(opts, file) == before
    assert "save" in vars(type(opts))
    assert type(opts).save.__module__ == type(opts).__module__


def test_what_the_user_chooses_meanwhile_is_saved(opts, table, tmp_path: Path) -> None:
    table.add("memory", "M", "why", [WebUI().options.change("forge_inference_memory", 20000)])
    opts.data["forge_inference_memory"] = 3000
    assert saved(opts, tmp_path / "config.json")["forge_inference_memory"] == 3000


def test_options_of_ours_that_nobody_chose_leave_nothing(opts, table, tmp_path: Path) -> None:
    opts.data |= {"flux_speedup_tier": "as configured", "flux_speedup_streams": "off"}
    assert saved(opts, tmp_path / "config.json") == {
        "forge_async_loading": "Queue",
        "samples": 1,
        "flux_speedup_streams": "off",
    }


def test_a_save_that_fails_leaves_the_file_as_it_was(opts, table, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    before = saved(opts, file)
    opts.data["broken"] = {1, 2}  # half of it is written before json raises
    with pytest.raises(TypeError):
        opts.save(str(file))
    assert json.loads(file.read_text()) == before
    del opts.data["broken"]
    opts.data["frozen"] = True
    with pytest.raises(AssertionError, match="disabled"):
        opts.save(str(file))
    assert json.loads(file.read_text()) == before
    assert len(list(tmp_path.iterdir())) == 1


KILLED = """
import os, sys
sys.path[:0] = {path!r}
from types import ModuleType
host = ModuleType("modules.options")
exec({host!r}, vars(host))
sys.modules["modules.options"] = host
import logging
from flux_speedup.hosts.common import settings_file
from flux_speedup.patching.table import PatchTable
if {ours}:
    PatchTable(logging.getLogger("x")).add("f", "F", "why", settings_file.changes())
opts = host.Options()
opts.save({file!r})

import json
def dump(data, file, **_):
    file.write(json.dumps(data)[:5])
    file.flush()
    os._exit(9)
host.json = type("json", (), {{"dump": staticmethod(dump)}})
opts.save({file!r})
"""


@pytest.mark.parametrize(("ours", "whole"), [(True, True), (False, False)])
def test_a_process_that_ends_while_it_saves_leaves_a_whole_file(
    opts, table, tmp_path: Path, ours: bool, whole: bool
) -> None:
    file = tmp_path / "config.json"
    code = KILLED.format(path=sys.path, host=HOST, ours=ours, file=str(file))
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert ended.returncode == 9, ended.stderr
    text = file.read_text()
    assert text.endswith("}") is whole
    if ours:
        (left,) = [each for each in tmp_path.iterdir() if each != file]
        os.utime(left, (time.time() - 3600,) * 2)
        saved(opts, file)  # and what was left is gone


@pytest.mark.skipif(os.name == "nt", reason="links and modes are Unix's")
def test_two_webuis_that_save_at_once_as_the_same_process_number_leave_a_whole_file(
    opts, table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as two containers that share a folder."""
    monkeypatch.setattr(settings_file, "_lock", contextlib.nullcontext())
    file = tmp_path / "config[1].json"
    other = type(opts)()
    other.data["samples"] = 2

    dump = json.dump

    def saved_by_the_other_in_between(data: Any, out: Any, **how: Any) -> None:
        out.write("{")
        out.flush()
        monkeypatch.setattr(json, "dump", dump)
        other.save(str(file))
        out.seek(0)
        dump(data, out, **how)

    monkeypatch.setattr(json, "dump", saved_by_the_other_in_between)
    assert saved(opts, file)["samples"] == 1


def test_a_link_stays_a_link_and_a_mode_a_mode(opts, table, tmp_path: Path) -> None:
    real, link = tmp_path / "elsewhere" / "real.json", tmp_path / "here" / "config.json"
    for each in (real, link):
        each.parent.mkdir()
    real.write_text("{}")
    real.chmod(0o600)
    link.symlink_to(real)
    opts.save(str(link))
    assert link.is_symlink()
    assert json.loads(real.read_text())["samples"] == 1
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    other = tmp_path / "elsewhere" / "hard.json"
    other.hardlink_to(real)
    opts.data["samples"] = 2
    opts.save(str(link))
    assert json.loads(other.read_text())["samples"] == 2


def test_what_cannot_be_put_in_place_is_written_in_place(
    opts, table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(settings_file.os, "replace", busy)
    assert saved(opts, tmp_path / "config.json")["samples"] == 1


def test_a_full_disk_is_said_and_the_file_is_kept(
    opts, table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.json"
    before = saved(opts, file)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(settings_file.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        opts.save(str(file))
    assert json.loads(file.read_text()) == before


def test_a_host_that_saves_otherwise_keeps_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modules.options", ModuleType("modules.options"))
    table = PatchTable(logging.getLogger("flux_speedup.test"))
    table.add("settings_file", "Whole", "why", settings_file.changes())
    assert table.outcomes()[0].state is State.SKIPPED
