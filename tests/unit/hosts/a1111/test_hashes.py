"""Hashes where a checkpoint is loaded as soon as it is chosen, on a stand-in with A1111's order of steps."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flux_speedup.hosts.a1111.hashes import RELOADS, ChosenCheckpoints
from flux_speedup.hosts.forge import digests as forge_digests
from flux_speedup.hosts.forge.hashes.changes import HashWait
from flux_speedup.patching.table import PatchTable, State
from flux_speedup.storage.sidecar import Sidecar
from flux_speedup.weights.files.file_digests import FileDigests
from tests.unit.hosts.forge.test_hashes import Host as Forge
from tests.unit.hosts.forge.test_hashes import short, soon
from tests.unit.hosts.held import Held
from tests.waiting import PATIENCE_S


class Host(Forge):
    """`load_model` reads the state dict, which asks for the hash, and fills the model, which asks again."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        super().__init__(patch, folder)
        del self.models.forge_model_reload, self.processing.forge_model_reload
        self.hashes.calculate_sha256 = self.hashes.__dict__.pop("calculate_sha256_real")
        self.callbacks = self._add(
            patch, "modules.script_callbacks", model_loaded_callback=lambda model: self.loaded(model)
        )
        self.timer = self._add(patch, "modules.timer", startup_record={"total": 1})
        self.models.load_model = self.models.reload_model_weights = self._load_model
        self.said: list[str] = []

    def sha256(self, file: str, title: str) -> str | None:
        if title not in self.cached:
            self.cached[title] = self.hashes.calculate_sha256(file)
        return self.cached[title]

    def load(self, info: Any) -> Any:
        return self.models.reload_model_weights(info)

    def _load_model(self, info: Any) -> Any:
        self.said.append(f"Loading weights [{info.calculate_shorthash()}]")
        model: Any = self.engine()
        found = info.calculate_shorthash()
        self.data["sd_model_checkpoint"] = info.title
        model.sd_model_hash, model.sd_checkpoint_info = found, info
        self.data["sd_checkpoint_hash"] = info.sha256
        self.models.model_data.sd_model = model
        self.callbacks.model_loaded_callback(model)
        return model


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    return Host(monkeypatch, tmp_path)


@pytest.fixture
def apply(host: Host, held: Held, tmp_path: Path) -> Iterator[Callable[[], PatchTable]]:
    table = PatchTable(logging.getLogger("flux_speedup.test"))
    digests = FileDigests(Sidecar(tmp_path / "digests.json"), read=held)

    def add() -> PatchTable:
        made = HashWait(digests, False, lambda: SimpleNamespace(type="cuda"), RELOADS, ChosenCheckpoints)
        table.add("digest", "title", "why", forge_digests.changes(digests, "calculate_sha256"))
        table.add("hash_wait", "title", "why", made.changes())
        assert {outcome.state for outcome in table.outcomes()} == {State.APPLIED}, table.outcomes()
        return table

    yield add
    held.go_on.set()
    table.put_back()


def test_the_load_waits_for_nothing_and_the_text_has_it(host: Host, held: Held, apply) -> None:
    info = host.checkpoint("one")
    apply()
    host.load(info)
    assert host.said == ["Loading weights [hash still to come]"]
    assert host.data == {"sd_model_checkpoint": "one", "sd_checkpoint_hash": None}
    assert host.models.checkpoint_tiles() == ["one"], "a page that lists checkpoints does not wait"
    soon(held)
    p = host.request(host)
    host.processing.process_images_inner(p)
    assert p.text == host.params.read_text() == f"a cat\nSteps: 2, Model hash: {short(info)}, Model: m"
    assert host.data == {"sd_model_checkpoint": f"one [{short(info)}]", "sd_checkpoint_hash": info.sha256}
    assert host.models.checkpoint_tiles() == [f"one [{short(info)}]"]
    host.load(info)
    assert host.said[1:] == [f"Loading weights [{short(info)}]"]


def test_whoever_asks_for_an_entry_otherwise_waits_for_it(host: Host, held: Held, apply) -> None:
    info = host.checkpoint("one")
    apply()
    seen: list[str] = []
    host.loaded = lambda model: (soon(held), seen.append(model.sd_checkpoint_info.title))
    host.load(info)
    assert seen == [f"one [{short(info)}]"], "an extension that is told of the model"


def test_nobody_waits_while_the_webui_starts(host: Host, held: Held, apply) -> None:
    info = host.checkpoint("one")
    host.timer.startup_record = None
    apply()
    loading = threading.Thread(target=host.load, args=(info,))
    loading.start()
    loading.join(PATIENCE_S)
    assert (info.title, info.sha256) == ("one", None)
    host.timer.startup_record = {"total": 1}
    soon(held)
    assert info.title == f"one [{short(info)}]"


def test_the_option_is_that_of_the_model_in_use_whichever_hash_comes_last(
    host: Host, held: Held, apply
) -> None:
    one, two = host.checkpoint("one"), host.checkpoint("two")
    apply()
    host.load(one)
    host.load(two)
    host.load(one)
    held.go_on.set()
    assert one.title != "one"
    assert two.title != "two"
    assert host.data == {"sd_model_checkpoint": one.title, "sd_checkpoint_hash": one.sha256}


def test_taken_away_every_hash_is_there(host: Host, held: Held, apply) -> None:
    info = host.checkpoint("one")
    table = apply()
    model = host.load(info)
    soon(held)
    table.put_back()
    assert vars(model)["sd_model_hash"] == short(info)
    assert "sd_model_hash" not in vars(host.engine)
    assert vars(info)["title"] == f"one [{short(info)}]"
    assert "modules.timer" in sys.modules
