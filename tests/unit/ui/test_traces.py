"""The button for whoever removes the extension: it asks first, and says what went."""

from __future__ import annotations

import gradio as gr
import pytest

from flux_speedup.ui import traces
from tests.fake_view import FakeView
from tests.unit.ui.test_pruning import pressed


@pytest.mark.parametrize(("button", "folder"), [("yes", False), ("statistics", True)])
def test_it_asks_first_and_says_what_went(button: str, folder: bool) -> None:
    view = FakeView()
    with gr.Blocks(analytics_enabled=False) as page:
        traces.build(view)
    pressed(page, f"{traces.ELEM_ID}_ask")()
    assert view.calls == []
    said, sure = pressed(page, f"{traces.ELEM_ID}_{button}")(None)
    assert "flux_speedup_tier" in said
    assert sure["visible"] is False
    assert view.calls == [("remove_traces", (folder,))]
    view.error = OSError("no space left")
    said, _ = pressed(page, f"{traces.ELEM_ID}_{button}")(None)
    assert "Failed" in said
