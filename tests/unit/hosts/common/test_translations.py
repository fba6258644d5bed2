"""The one function that makes the WebUI's localisation: wrapped, falling back, and put back exactly."""

from __future__ import annotations

import logging
import sys
import types
from typing import Any

import pytest

from flux_speedup.hosts.common import translations
from flux_speedup.hosts.common.translations import START, entries
from flux_speedup.patching.table import PatchTable, State

SCRIPTS = {"ru_RU": START + '{"Generate": "x"}', "None": START + "{}", "zh_CN": "something else"}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module with the WebUI's function, which this process has not got."""
    module: Any = types.ModuleType(translations.MODULE)

    def localization_js(current_localization_name: str) -> str:
        return SCRIPTS[current_localization_name]

    module.localization_js = localization_js
    monkeypatch.setitem(sys.modules, "modules", types.ModuleType("modules"))
    monkeypatch.setitem(sys.modules, translations.MODULE, module)
    return module


def test_wrapped_and_put_back_exactly(host: Any) -> None:
    original = host.localization_js
    table = PatchTable(logging.getLogger("flux_speedup.test"))
    table.add("translations", "t", "", translations.changes())
    assert table.outcomes()[0].state is State.APPLIED
    held = host.localization_js
    assert entries("ru")["Cancel"].encode("unicode_escape").decode() in held("ru_RU")
    assert held("None") is SCRIPTS["None"]
    table.put_back()
    assert host.localization_js is original
    assert held("ru_RU") is SCRIPTS["ru_RU"]


def test_a_script_that_cannot_be_read_stays_the_webuis(host: Any, caplog: pytest.LogCaptureFixture) -> None:
    table = PatchTable(logging.getLogger("flux_speedup.test"))
    table.add("translations", "t", "", translations.changes())
    assert host.localization_js("zh_CN") is SCRIPTS["zh_CN"]
    (said,) = caplog.messages
    assert "zh_CN" in said
    assert "stay in English" in said
    table.put_back()


def test_another_webui_without_it_keeps_its_own(host: Any) -> None:
    del host.localization_js
    table = PatchTable(logging.getLogger("flux_speedup.test"))
    table.add("translations", "t", "", translations.changes())
    assert table.outcomes()[0].state is State.SKIPPED
