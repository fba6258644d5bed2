"""Whoever removes the extension: nothing of it stays in the WebUI's settings, and what is the user's stays."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from flux_speedup.control.acts import Acts
from flux_speedup.hosts.common.inside import Refused
from flux_speedup.hosts.common.webui import WebUI
from flux_speedup.patching.change import Call
from flux_speedup.patching.table import PatchTable
from flux_speedup.pruning.disabled import Remembered
from flux_speedup.stats.events import Event
from flux_speedup.stats.statistics import Statistics
from tests.unit.hosts.common.test_disabling import Options

CHOSEN = {"flux_speedup_tier": "large", "flux_speedup_enabled": "off"}


class Host(WebUI):
    """A WebUI with a data folder."""

    def __init__(self, data: Path) -> None:
        super().__init__()
        self.data = data

    def data_folder(self) -> Path:
        return self.data


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    made = Options(tmp_path / "config.json")
    made.data.update(CHOSEN, flux_speedup_streams="as configured", disabled_extensions=["user", "sag"])
    shared: Any = ModuleType("modules.shared")
    shared.opts, shared.config_filename = made, str(tmp_path / "config.json")
    shared.cmd_opts = SimpleNamespace(freeze_settings=False, disable_extension_access=False)
    modules: Any = ModuleType("modules")
    modules.shared = shared
    monkeypatch.setitem(sys.modules, "modules", modules)
    monkeypatch.setitem(sys.modules, "modules.shared", shared)
    return made


class Ours:
    """What there is of us in a process: a change in force, statistics, a folder."""

    def __init__(self, data: Path) -> None:
        self.host = Host(data)
        self.folder = data / "cache" / "flux-speedup"
        self.folder.mkdir(parents=True)
        Remembered(self.folder).write(["sag"])
        self.table = PatchTable(logging.getLogger("flux_speedup.test"))
        self.in_force = True
        self.table.add("one", "title", "why", [Call(lambda: self.put_back)])
        self.statistics = Statistics(lambda: (self.folder / "statistics.sqlite3", 100))
        self.statistics.record(Event("move", "transformer", 1, 1.0, "RAM", "GPU"))
        nobody: Any = None
        self.acts = Acts(self.host, self.table, self.statistics, nobody, lambda: None)

    def put_back(self) -> None:
        self.in_force = False


def test_what_was_chosen_goes_and_what_is_the_users_stays(options: Options, tmp_path: Path) -> None:
    ours = Ours(tmp_path)
    said = ours.acts.remove_traces(folder=False)
    assert json.loads((tmp_path / "config.json").read_text()) == {"disabled_extensions": ["user"], "other": 1}
    assert not ours.in_force
    assert ours.folder.is_dir()
    assert "flux_speedup_enabled, flux_speedup_tier;" in said
    assert "enabled again from the next start on: sag" in said


def test_our_folder_goes_when_asked_to_and_does_not_come_back(options: Options, tmp_path: Path) -> None:
    ours = Ours(tmp_path)
    assert f"deleted: {ours.folder}" in ours.acts.remove_traces(folder=True)
    ours.statistics.record(Event("move", "transformer", 1, 1.0, "RAM", "GPU"))
    assert not ours.folder.exists()
    assert "Nothing of ours" in ours.acts.remove_traces(folder=True)


def test_where_it_may_not_be_saved_nothing_is_changed(options: Options, tmp_path: Path) -> None:
    ours = Ours(tmp_path)
    Remembered(ours.folder).write([])
    vars(options)["broken"] = True
    with pytest.raises(Refused, match="disk full"):
        ours.acts.remove_traces(folder=True)
    assert options.data.items() >= CHOSEN.items()
    assert ours.in_force
    assert ours.folder.is_dir()
