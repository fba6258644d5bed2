"""Tab and settings panel as gradio builds them: run with both versions."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import gradio as gr
import pytest

from flux_speedup.patches import Outcome, State
from flux_speedup.stats.events import Event
from flux_speedup.ui import changes, loads, tab
from tests.fake_view import NASTY, FakeView


def settings_page(view: FakeView) -> gr.Blocks:
    """The way a WebUI builds an option: its component called by name inside a Blocks."""
    with gr.Blocks(analytics_enabled=False) as page:
        component: Callable[..., Any] = lambda **given: changes.build(view, **given)  # noqa: E731
        built = component(label="", value="", elem_id="setting_flux_speedup_changes", anything=1)
        assert isinstance(built, gr.HTML)
        assert built.elem_id == "setting_flux_speedup_changes"
        assert built.value == ""
    return page


def parts(page: gr.Blocks) -> dict[str, dict[str, Any]]:
    """The page's components by elem_id, as they go to the browser."""
    config = page.get_config_file()
    found = [component["props"] for component in config["components"]]
    return {props["elem_id"]: props for props in found if props.get("elem_id")}


def test_the_tab_has_its_parts() -> None:
    found = parts(tab.build(FakeView()))
    assert "77.3 GB" in found["flux_speedup_tab_head"]["value"]
    assert "Memory tier" in found["flux_speedup_tab_status"]["value"]
    assert "import torch" in found["flux_speedup_tab_start"]["value"]
    assert list(found["flux_speedup_tab_loads"]["headers"]) == list(loads.HEADERS)
    assert not found["flux_speedup_tab_loads"]["interactive"]
    rows = found["flux_speedup_tab_loads"]["value"]["data"]
    assert len(rows) == 14
    assert rows[0][1:5] == ["text encoders", 9.8, 0.22, 44.5]


def test_the_panel_offers_what_is_applied() -> None:
    keep = parts(settings_page(FakeView()))["setting_flux_speedup_changes_keep"]
    assert ["Copy streams", "streams"] in [list(choice) for choice in keep["choices"]]
    assert keep["value"] == ["tier.vram_state", "tier.inference", "streams", "pinning"]


@pytest.mark.parametrize("name", NASTY)
def test_names_reach_the_browser_as_text(name: str) -> None:
    view = FakeView()
    view.outcomes = (Outcome("odd", name, State.APPLIED, name),)
    view.kept = [Event(kind, name, 10, 1.0, name, name) for kind in ("move", "startup")]
    for page in (tab.build(view), settings_page(view)):
        for elem_id, props in parts(page).items():
            json.dumps(props, default=str).encode("utf-8")
            if elem_id.endswith(("_head", "_status", "_start", "_list")):
                assert "<script>" not in props["value"]
                assert "<img" not in props["value"]


def test_both_sit_in_one_page_as_a_webui_renders_them() -> None:
    view = FakeView()
    page, settings = tab.build(view), settings_page(view)
    with gr.Blocks(analytics_enabled=False) as demo:
        with gr.TabItem("Flux Speedup"):
            page.render()
        with gr.TabItem("Settings"):
            settings.render()
    ids = [c["props"].get("elem_id") for c in demo.get_config_file()["components"]]
    named = [elem_id for elem_id in ids if elem_id and "flux_speedup" in elem_id]
    assert len(named) == len(set(named))
    assert {"flux_speedup_tab_head", "setting_flux_speedup_changes"} <= set(named)


def test_nothing_is_offered_on_gradios_own_api_and_nothing_is_polled() -> None:
    for page in (tab.build(FakeView()), settings_page(FakeView())):
        config = page.get_config_file()
        ours = [d for d in config["dependencies"] if d["api_name"] is not False]
        # What is left are the load events gradio makes for values that are functions.
        assert all(len(dependency["outputs"]) == 1 for dependency in ours)
        assert not any(dependency.get("every") for dependency in config["dependencies"])


def test_buttons_are_not_written_into_the_users_ui_config() -> None:
    for page in (tab.build(FakeView()), settings_page(FakeView())):
        buttons = [block for block in page.blocks.values() if isinstance(block, gr.Button)]
        assert len(buttons) >= 2
        assert all(button.do_not_save_to_config for button in buttons)


def test_ten_thousand_events_build_in_half_a_second() -> None:
    view = FakeView()
    view.kept = [Event("move", f"part {i % 7}", i, 1.0, "RAM", "GPU", float(i)) for i in range(10_000)]
    took = []
    for _ in range(3):
        # This thread's own seconds: other work on the machine is not the tab's.
        started = time.thread_time()
        tab.build(view)
        took.append(time.thread_time() - started)
    assert min(took) < 0.5
