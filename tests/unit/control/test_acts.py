"""What can be done while an image is made, and what comes back after it was put back."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from flux_speedup.control.acts import Acts
from flux_speedup.hosts.common.inside import Forbidden, Refused
from flux_speedup.hosts.common.webui import WebUI
from flux_speedup.patching.change import Function, Value
from flux_speedup.patching.table import PatchTable, State
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.packed.background import Background
from flux_speedup.weights.packed.store import Store
from tests.waiting import PATIENCE_S


class Options:
    """The WebUI's; a change of the master switch is told as its Settings page does."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {"flux_speedup_enabled": "on"}
        self.changed: Any = lambda: None
        self.full = False

    def __getattr__(self, key: str) -> Any:
        return self.data.get(key)

    def set(self, key: str, value: Any) -> None:
        self.data[key] = value
        if key == "flux_speedup_enabled" and value == "off":
            self.changed()

    def save(self, filename: str) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        Path(filename).write_text(json.dumps(self.data))


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The modules of a WebUI: options, the queue's lock, and one with something to change."""
    shared: Any = ModuleType("modules.shared")
    shared.opts, shared.config_filename = Options(), str(tmp_path / "config.json")
    shared.cmd_opts = SimpleNamespace()
    queue: Any = ModuleType("modules.call_queue")
    queue.queue_lock = threading.Lock()
    toy: Any = ModuleType("toy")
    toy.level, toy.work = 1, lambda: "host"
    for each in (shared, queue, toy):
        monkeypatch.setitem(sys.modules, each.__name__, each)
    return SimpleNamespace(opts=shared.opts, lock=queue.queue_lock, toy=toy, config=tmp_path / "config.json")


@pytest.fixture
def table() -> Iterator[PatchTable]:
    made = PatchTable(logging.getLogger("flux_speedup.test"))
    made.add("level", "Level", "why", [Value("toy", "level", 9)])
    made.add(
        "inner", "Inner", "why", [Function("toy", "work", lambda original: lambda: f"inner {original()}")]
    )
    made.add(
        "outer", "Outer", "why", [Function("toy", "work", lambda original: lambda: f"outer {original()}")]
    )
    yield made
    made.put_back()


@pytest.fixture
def acts(host: Any, table: PatchTable) -> Acts:
    nobody: Any = None
    made = Acts(WebUI(), table, nobody, nobody, lambda: None)
    host.opts.changed = made.switched_off
    return made


def test_packing_is_stopped_only_where_it_is_on(acts: Acts, tmp_path: Path) -> None:
    registry = Registry(leases=False)
    made = Background(
        tmp_path, lambda: True, lambda: torch.device("cpu"), registry=registry, store=Store(registry)
    )

    class Packs(WebUI):
        def packing(self) -> Background:
            return made

    nobody: Any = None
    packs = Acts(Packs(), nobody, nobody, nobody, lambda: None)
    for each in (acts, packs):
        with pytest.raises(Refused, match="packed weights are off"):
            each.pack(False)
    end = made.begin()
    assert packs.pack(False).stopped
    assert not packs.pack(True).stopped
    end()


def in_force(host: Any) -> tuple[int, str]:
    return host.toy.level, host.toy.work()


OURS, THEIRS = (9, "outer inner host"), (1, "host")


def test_nothing_is_put_back_under_an_image(host, table, acts) -> None:
    with host.lock:
        for act in (
            acts.put_everything_back,
            lambda: acts.keep_only([]),
            lambda: acts.set_options({"flux_speedup_enabled": "off"}),
        ):
            with pytest.raises(Refused, match="an image is being made"):
                act()
        assert in_force(host) == OURS
        assert host.opts.flux_speedup_enabled == "on"
        acts.set_options({"flux_speedup_streams": "off"})  # waits for Reload UI anyway
    acts.set_options({"flux_speedup_enabled": "off"})
    assert in_force(host) == THEIRS
    assert json.loads(host.config.read_text())["flux_speedup_enabled"] == "off"


def test_the_settings_page_cannot_be_refused_so_it_waits_for_the_image(host, table, acts) -> None:
    done = threading.Event()
    put_back = table.put_back

    def noticed(*args: Any) -> Any:
        answer = put_back(*args)
        done.set()
        return answer

    table.put_back = noticed  # type: ignore[method-assign]
    with host.lock:
        host.opts.set("flux_speedup_enabled", "off")
        assert not done.wait(0.05)
        assert in_force(host) == OURS
    assert done.wait(PATIENCE_S)
    assert in_force(host) == THEIRS


def test_what_was_put_back_can_be_taken_back_in_the_same_order(host, table, acts) -> None:
    table.put_back(["level"])  # by a tick, before
    acts.put_everything_back()
    assert in_force(host) == THEIRS
    acts.put_everything_back()
    with host.lock, pytest.raises(Refused):
        acts.apply_again()
    acts.apply_again()
    assert in_force(host) == (1, "outer inner host")
    assert {o.item: o.state for o in table.outcomes()} == {
        "level": State.UNDONE,
        "inner": State.APPLIED,
        "outer": State.APPLIED,
    }
    acts.put_everything_back()
    assert in_force(host) == THEIRS


def test_a_switch_off_that_cannot_be_saved_changes_nothing(host, table, acts) -> None:
    host.opts.full = True
    with pytest.raises(Refused, match="cannot be saved") as refused:
        acts.set_options({"flux_speedup_enabled": "off", "flux_speedup_tier": "large"})
    assert not isinstance(refused.value, Forbidden)
    assert host.opts.data == {"flux_speedup_enabled": "on"}
    assert in_force(host) == OURS
    assert not host.config.exists()
