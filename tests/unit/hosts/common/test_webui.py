"""A host without Forge's memory manager: the memory part says so, the rest is in force."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from flux_speedup import hosts
from flux_speedup.configuration.config import Config
from flux_speedup.features import moments as items
from flux_speedup.features.switch import SWITCHED_OFF
from flux_speedup.hosts.common.credentials import Credentials
from flux_speedup.hosts.common.options import flags
from flux_speedup.hosts.common.webui import NOT_AVAILABLE, WebUI
from flux_speedup.patching.table import PatchTable, State
from flux_speedup.stats.events import Event
from flux_speedup.stats.tracking import Tracking


class Options:
    """Options as the WebUIs of the A1111 family keep them."""

    def __init__(self, frozen: bool = False) -> None:
        self.data: dict[str, Any] = {"known": "before"}
        self.data_labels = {"known": None, "unset": None}
        self._frozen = frozen

    def __getattr__(self, key: str) -> Any:
        return self.data.get(key)

    def set(self, key: str, value: Any, run_callbacks: bool = True) -> bool:
        assert not self._frozen, "changing settings is disabled"
        self.data[key] = value
        return True

    def save(self, filename: str) -> None:
        Path(filename).write_text(json.dumps(self.data))


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("modules.shared")
    module.opts = Options()  # type: ignore[attr-defined]
    module.cmd_opts = argparse.Namespace(api=True, api_auth="me:secret")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modules.shared", module)
    return module


def test_without_a_memory_manager_the_family_host_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "backend.memory_management", raising=False)
    assert type(hosts.detect()) is WebUI


def test_the_memory_part_is_not_available_and_the_rest_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = ModuleType("modules.sd_models")
    checkpoint = tmp_path / "sd.safetensors"
    checkpoint.write_bytes(b"12345")
    models.load_model = lambda info=None: SimpleNamespace(sd_checkpoint_info=info)  # type: ignore[attr-defined]
    callbacks = ModuleType("modules.script_callbacks")
    callbacks.inspect = object()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modules.sd_models", models)
    monkeypatch.setitem(sys.modules, "modules.script_callbacks", callbacks)
    original, seen = models.load_model, []
    table = PatchTable(logging.getLogger("flux_speedup.test"))
    host = WebUI()
    decided = items.apply(table, host, host.card(), Config(), argv=[], environ={})
    items.apply_with_scripts(table, host, decided, Config(), seen.append, Tracking(lambda *_: None))
    states = {o.item: (o.state, o.why) for o in table.outcomes()}
    for item in ("tier", "streams", "weights", "needless_unloads"):
        assert states[item] == (State.SKIPPED, NOT_AVAILABLE)
    assert states["fast_callbacks"][0] is State.APPLIED
    assert states["statistics"][0] is State.APPLIED
    info = SimpleNamespace(filename=str(checkpoint))
    assert models.load_model(info).sd_checkpoint_info is info
    (event,) = seen
    assert isinstance(event, Event)
    assert (event.kind, event.what, event.bytes) == ("checkpoint", "sd.safetensors", 5)
    table.put_back()
    assert models.load_model is original


def option(table: PatchTable, host: WebUI, key: str, value: object) -> State:
    table.add("item", "Item", "why", [host.options.change(key, value)])
    return table.outcomes()[0].state


def test_options_are_put_back_as_they_were(shared: ModuleType) -> None:
    table, host = PatchTable(logging.getLogger("flux_speedup.test")), WebUI()
    for key, before in (("known", {"known": "before"}), ("unset", {"known": "before"})):
        assert option(table, host, key, "ours") is State.APPLIED
        assert shared.opts.data[key] == "ours"
        table.put_back()
        assert shared.opts.data == before


def test_what_the_user_changed_since_is_theirs_until_the_next_start(shared: ModuleType) -> None:
    table, host = PatchTable(logging.getLogger("flux_speedup.test")), WebUI()
    option(table, host, "known", "ours")
    shared.opts.data["known"] = "the user's"
    table.put_back()
    assert shared.opts.data["known"] == "the user's"
    assert option(table, host, "known", "ours") is State.SKIPPED
    assert shared.opts.data["known"] == "the user's"


def test_frozen_and_missing_options_are_named(shared: ModuleType) -> None:
    table, host = PatchTable(logging.getLogger("flux_speedup.test")), WebUI()
    assert option(table, host, "missing", 1) is State.SKIPPED
    assert "no option missing" in table.outcomes()[0].why
    shared.opts = Options(frozen=True)
    assert option(table, host, "known", 1) is State.SKIPPED
    assert "known cannot be set" in table.outcomes()[0].why


def test_credentials_and_api_switch_come_from_the_flags(shared: ModuleType, tmp_path: Path) -> None:
    assert WebUI().api_is_on()
    for page in (True, False):
        found = Credentials.of(flags(), page=page)
        assert found is not None
        assert found.have(b"me", b"secret")
    file = tmp_path / "users"
    file.write_text("c:d, e:f\n\n g:h\n")
    shared.cmd_opts = argparse.Namespace(
        api=False, nowebui=False, api_auth=None, gradio_auth="a:b", gradio_auth_path=str(file)
    )
    assert not WebUI().api_is_on()
    assert Credentials.of(flags(), page=True) is None
    found = Credentials.of(flags(), page=False)
    assert found is not None
    for user, password in (b"ab", b"cd", b"ef", b"gh"):
        assert found.have(bytes([user]), bytes([password]))
    assert not found.have(b"a", b"d")
    file.unlink()
    found = Credentials.of(flags(), page=False)
    assert found is not None
    assert not found.have(b"c", b"d")
    shared.cmd_opts = argparse.Namespace(api=True)
    assert Credentials.of(flags(), page=False) is None


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (Config(statistics=False), "it needs statistics"),
        (Config(requests=False), SWITCHED_OFF),
    ],
)
def test_requests_are_not_told_apart_where_nobody_wants_it(settings: Config, why: str) -> None:
    table, host = PatchTable(logging.getLogger("flux_speedup.test")), WebUI()
    decided = items.apply(table, host, host.card(), Config(), argv=[], environ={})
    items.apply_with_scripts(table, host, decided, settings, lambda _: None, Tracking(lambda *_: None))
    items.apply_when_started(table, host, Config(garbage=False))
    found = {o.item: (o.state, o.why) for o in table.outcomes()}
    assert found["requests"] == (State.SKIPPED, why)
    table.put_back()


def test_a_host_without_processing_keeps_its_requests_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "modules.processing", raising=False)
    table, host = PatchTable(logging.getLogger("flux_speedup.test")), WebUI()
    decided = items.apply(table, host, host.card(), Config(), argv=[], environ={})
    items.apply_with_scripts(table, host, decided, Config(), lambda _: None, Tracking(lambda *_: None))
    assert {o.item: o.state for o in table.outcomes()}["requests"] is State.PENDING
    items.apply_when_started(table, host, Config(garbage=False))
    table.settle()
    assert {o.item: o.state for o in table.outcomes()}["requests"] is State.SKIPPED
    table.put_back()
