"""What Settings says of scripts that are not loaded, and its two buttons: run with both versions of gradio."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gradio as gr
import pytest

from flux_speedup.ui import section
from tests.fake_view import NASTY, FakeView


def pressed(page: gr.Blocks, elem_id: str) -> Callable[..., list[Any]]:
    """The function behind a button."""
    config = page.get_config_file()
    (number,) = [c["id"] for c in config["components"] if c["props"].get("elem_id") == elem_id]
    found = [
        fn for index, fn in enumerate(_functions(page)) if number in _triggers(config["dependencies"][index])
    ]
    assert len(found) == 1
    return found[0]


def _functions(page: gr.Blocks) -> list[Callable[..., list[Any]]]:
    fns = page.fns.values() if isinstance(page.fns, dict) else page.fns
    return [each.fn for each in fns]


def _triggers(dependency: dict[str, Any]) -> list[Any]:
    return [target[0] if isinstance(target, (list, tuple)) else target for target in dependency["targets"]]


@pytest.fixture
def view() -> FakeView:
    return FakeView()


def built(view: FakeView) -> gr.Blocks:
    with gr.Blocks(analytics_enabled=False) as page:
        section.left_out(view, view)
    return page


def test_it_says_what_is_left_out_how_much_faster_and_what_would_be_added(view: FakeView) -> None:
    html = section.body(view)
    for text in (
        "2 scripts are not loaded",
        "start 18.7 s -&gt; 11.6 s",
        "sd_forge_sag, SwinIR",
        "undo it before",
    ):
        assert text in html


def test_the_buttons_disable_and_undo(view: FakeView) -> None:
    page = built(view)
    result, shown = pressed(page, f"{section.LEFT_OUT}_disable")(None)
    assert "Disabled: sd_forge_sag, SwinIR" in result
    assert "by the button below: sd_forge_sag, SwinIR" in shown
    assert "It would add" not in shown
    result, shown = pressed(page, f"{section.LEFT_OUT}_undo")(None)
    assert "Enabled again" in result
    assert "It would add" in shown
    assert [call for call, _ in view.calls] == ["disable_left_out", "undo_disabled"]


def test_an_error_is_said_on_the_page(view: FakeView, caplog: pytest.LogCaptureFixture) -> None:
    view.error = RuntimeError("<b>no</b>")
    result, _ = pressed(built(view), f"{section.LEFT_OUT}_disable")(None)
    assert "Failed" in result
    assert "<b>" not in result
    assert "a button of the tab failed" in caplog.text


@pytest.mark.parametrize("text", NASTY)
def test_names_from_elsewhere_are_text(view: FakeView, text: str) -> None:
    view.pruned = replace(view.pruned, summary=text, can_disable=(text,), disabled=(text,), why_not=text)
    html = section.body(view)
    assert "<script>" not in html
    assert "<img" not in html


def test_where_it_may_not_it_says_why_and_the_buttons_are_in_no_ui_config(view: FakeView) -> None:
    view.pruned = replace(view.pruned, why_not="the settings are frozen")
    assert "cannot be changed here" in section.body(view)
    page = built(view)
    buttons = [each for each in page.blocks.values() if isinstance(each, gr.Button)]
    assert len(buttons) == 2
    assert all(each.do_not_save_to_config for each in buttons)


@pytest.mark.parametrize(("button", "folder"), [("yes", False), ("statistics", True)])
def test_it_asks_first_and_says_what_went(button: str, folder: bool) -> None:
    view = FakeView()
    with gr.Blocks(analytics_enabled=False) as page:
        section.traces(view)
    pressed(page, f"{section.TRACES}_ask")()
    assert view.calls == []
    said, sure = pressed(page, f"{section.TRACES}_{button}")(None)
    assert "flux_speedup_tier" in said
    assert sure["visible"] is False
    assert view.calls == [("remove_traces", (folder,))]
    view.error = OSError("no space left")
    said, _ = pressed(page, f"{section.TRACES}_{button}")(None)
    assert "Failed" in said
