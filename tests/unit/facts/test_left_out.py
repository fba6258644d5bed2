"""What is said of scripts that were left out, once the WebUI has started."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from flux_speedup.control.acts import Acts
from flux_speedup.facts import left_out
from flux_speedup.hosts.common import disabling
from flux_speedup.hosts.common.webui import WebUI
from flux_speedup.patching.table import PatchTable
from flux_speedup.pruning.decision import Decision

APPLIED = frozenset({"pruning"})


class Host(WebUI):
    """One that left something out, or nothing."""

    def __init__(self, decision: Decision | None) -> None:
        super().__init__()
        self.pruner().decision = self.pruner().missing = decision


def decided() -> Decision:
    return Decision(left_out=frozenset({"loopback"}))


@pytest.mark.parametrize(
    ("decision", "applied", "said"),
    [(decided(), APPLIED, True), (decided(), frozenset(), False), (None, APPLIED, False)],
)
def test_one_line_says_it_where_something_is_left_out(
    decision: Decision | None, applied: frozenset[str], said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        left_out.finish(Host(decision), applied, demo=object(), app=None)
    assert ("not loaded" in caplog.text) is said


def test_the_button_disables_what_is_missing_and_says_what(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def disable(decision: Any, folder: Any) -> list[str]:
        asked.append(decision)
        return ["sd_forge_sag"] if len(asked) == 1 else []

    monkeypatch.setattr(disabling, "disable", disable)
    decision, nobody = decided(), None
    table = PatchTable(logging.getLogger("flux_speedup.test"))
    acts = Acts(Host(decision), table, nobody, nobody, lambda: None)  # type: ignore[arg-type]
    assert acts.disable_left_out() == "Disabled in the WebUI from the next start on: sd_forge_sag."
    assert "Nothing was changed" in acts.disable_left_out()
    assert asked == [decision, decision]
