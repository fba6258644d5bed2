"""What the buttons do."""

from __future__ import annotations

import re

import pytest

from flux_speedup.ui import actions, models
from tests.fake_view import MODELS, FakeView


def test_each_button_asks_the_view_once() -> None:
    view = FakeView()
    assert "33.8 GB of VRAM are free again" in actions.attempt(lambda: FakeView().drop(None))
    assert "Forgot schnell" in actions.drop(view, view, models.token(MODELS[1]))
    assert actions.attempt(view.measure) == ""
    assert "are deleted" in actions.attempt(view.forget_statistics, "They are deleted.")
    assert [name for name, _ in view.calls] == ["drop", "measure", "forget_statistics"]


def test_a_refusal_is_said_with_its_reason() -> None:
    view = FakeView()
    view.refused = "an image <is> being made"
    shown = actions.attempt(view.measure, "done")
    assert "Not now: <bdi>an image &lt;is&gt; being made</bdi>" in shown
    assert re.search(r"\(\d\d:\d\d:\d\d\)", shown), "it stays there, and nobody knows since when"
    assert "fsu-wrong" in shown


def test_a_failure_is_said_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    view = FakeView()
    view.error = OSError("disk full")
    assert "Failed: <bdi>disk full</bdi>" in actions.attempt(view.forget_statistics)
    assert "a button of the tab failed" in caplog.text


@pytest.mark.parametrize("token", ["", "unknown", "<script>"])
def test_a_model_that_is_gone_is_not_dropped(token: str) -> None:
    view = FakeView()
    assert "no longer kept" in actions.drop(view, view, token)
    assert view.calls == []
