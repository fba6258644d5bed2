"""Tab and settings panel as gradio builds them: run with both versions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gradio as gr
import pytest

from flux_speedup.patching.table import Outcome, State
from flux_speedup.stats.events import Event
from flux_speedup.ui import changes, loads, tab
from flux_speedup.ui import parts as parts_of_the_tab
from tests.fake_view import NASTY, FakeView
from tests.page import Tags


def settings_page(view: FakeView) -> gr.Blocks:
    """The way a WebUI builds an option: its component called by name inside a Blocks."""
    with gr.Blocks(analytics_enabled=False) as page:
        component: Callable[..., Any] = lambda **given: changes.build(view, view, **given)  # noqa: E731
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


def handler(page: gr.Blocks, name: str) -> Callable[..., list[Any]]:
    """The function of one of the tab's events; both versions keep them, in their own ways."""
    kept = page.fns.values() if isinstance(page.fns, dict) else page.fns
    (found,) = {one.fn for one in kept if one is not None and getattr(one.fn, "__name__", "") == name}
    return found


def values(updates: list[Any]) -> dict[str, Any]:
    """What a handler that answers with every part first would show; parts it leaves alone are missing."""
    shown = zip(parts_of_the_tab.NAMES, updates, strict=False)
    return {name: update["value"] for name, update in shown if "value" in update}


def test_the_tab_is_built_without_a_figure_and_filled_when_the_page_is_loaded() -> None:
    view = FakeView()
    page = tab.build(view, view)
    assert view.reads == 0
    found = parts(page)
    assert all(found[f"flux_speedup_tab_{name}"]["value"] == "" for name in parts_of_the_tab.NAMES)
    shown = values(handler(page, "refreshed")(None, [], []))
    assert "77.3 GB" in shown["head"]
    assert "Memory tier" in shown["status"]
    assert "import torch" in shown["start"]
    assert shown["loads"].count("<tr>") == 15
    assert Tags(shown["loads"]).text.index("vae0.1680.0116.8") > 0
    assert set(shown) == set(parts_of_the_tab.NAMES)


def test_what_is_the_same_as_before_is_not_sent_again() -> None:
    view = FakeView()
    live = handler(tab.build(view, view), "live")
    count = len(parts_of_the_tab.NAMES)
    first = live(None, {}, [], [])
    assert set(values(first)) == set(parts_of_the_tab.NAMES)
    marks = first[count + 1]
    assert values(live(None, marks, [], [])) == {}
    view.used = replace(view.used, pinned=77_000_000)
    assert set(values(live(None, marks, [], []))) == {"memory"}
    assert set(values(live(view.made[2].key, marks, [], []))) == {"memory", "requests"}


def test_what_was_unticked_stays_unticked_when_the_page_refreshes_itself() -> None:
    view = FakeView()
    offered = ["tier.vram_state", "tier.inference", "streams", "pinning"]
    ticked = ["tier.vram_state", "tier.inference", "pinning"]
    assert "value" not in changes.followed(view, ticked, offered)[1]
    view.keep_only(["tier.vram_state", "streams", "pinning"])
    _, update, now = changes.followed(view, ticked, offered)
    assert update["value"] == ["tier.vram_state", "pinning"]
    assert now == ["tier.vram_state", "streams", "pinning"]
    # What was applied since has its tick.
    assert changes.followed(view, [], ["pinning"])[1]["value"] == ["tier.vram_state", "streams"]


def test_pressing_the_newest_request_means_whatever_is_newest() -> None:
    view = FakeView()
    pressed = handler(tab.build(view, view), "pressed")
    newest, older = view.made[0].key, view.made[2].key
    assert pressed(None, f"request:{older}", None, {})[-1] == older
    assert pressed(None, f"request:{newest}", older, {})[-1] is None
    for odd in ("", "request:", "request:x", "nonsense", "drop:nothing", "request:13"):
        assert pressed(None, odd, older, {})[-1] == older
    assert view.calls == []


def test_the_pulse_says_rate_and_measurement_and_changes_with_every_answer() -> None:
    view = FakeView()
    view.refresh = 2.5
    first = parts_of_the_tab.pulse(view)
    assert 'data-fsu-refresh="2.5" data-fsu-measuring="0"' in first
    assert first != parts_of_the_tab.pulse(view)
    view.measure()
    assert 'data-fsu-measuring="1"' in parts_of_the_tab.pulse(view)


def test_the_panel_offers_what_is_applied() -> None:
    keep = parts(settings_page(FakeView()))["setting_flux_speedup_changes_keep"]
    assert ["Copy streams", "streams"] in [list(choice) for choice in keep["choices"]]
    assert keep["value"] == ["tier.vram_state", "tier.inference", "streams", "pinning"]


@pytest.mark.parametrize("name", NASTY)
def test_names_reach_the_browser_as_text(name: str) -> None:
    view = FakeView()
    view.outcomes = (Outcome("odd", name, State.APPLIED, name),)
    view.kept = [Event(kind, name, 10, 1.0, name, name) for kind in ("move", "startup")]
    for page in (tab.build(view, view), settings_page(view)):
        for elem_id, props in parts(page).items():
            json.dumps(props, default=str).encode("utf-8")
            if elem_id.endswith("_list"):
                assert "<script>" not in props["value"]
                assert "<img" not in props["value"]


def test_both_sit_in_one_page_as_a_webui_renders_them() -> None:
    view = FakeView()
    page, settings = tab.build(view, view), settings_page(view)
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
    for page in (tab.build(FakeView(), FakeView()), settings_page(FakeView())):
        config = page.get_config_file()
        ours = [d for d in config["dependencies"] if d["api_name"] is not False]
        # What is left are the load events gradio makes for values that are functions.
        assert all(len(dependency["outputs"]) == 1 for dependency in ours)
        assert not any(dependency.get("every") for dependency in config["dependencies"])


def test_buttons_are_not_written_into_the_users_ui_config() -> None:
    for page in (tab.build(FakeView(), FakeView()), settings_page(FakeView())):
        buttons = [block for block in page.blocks.values() if isinstance(block, gr.Button)]
        assert len(buttons) >= 2
        assert all(button.do_not_save_to_config for button in buttons)


def test_ten_thousand_events_are_a_page_like_any_other() -> None:
    view = FakeView()
    view.kept = [Event("move", f"part {i % 7}", 10**9, 1.0, "RAM", "GPU", float(i)) for i in range(10_000)]
    shown = values(handler(tab.build(view, view), "refreshed")(None, [], []))
    assert shown["loads"].count("<tr>") == loads.NEWEST + 1
    assert shown["rates"].count("<circle") == loads.NEWEST
    assert "10000 moves" in shown["head"]


def test_after_every_press_of_the_panel_the_whole_tab_follows() -> None:
    page = tab.build(FakeView(), FakeView())
    config = page.get_config_file()
    ids = {c["props"].get("elem_id"): c["id"] for c in config["components"]}
    head = ids["flux_speedup_tab_head"]
    followers = [
        d for d in config["dependencies"] if d.get("trigger_after") is not None and head in d["outputs"]
    ]
    pressed = [config["dependencies"][d["trigger_after"]] for d in followers]
    targets = [target for d in pressed for target in d["targets"]]
    buttons = {target[0] if isinstance(target, (list, tuple)) else target for target in targets}
    names = ("apply", "put_back_yes", "again")
    assert buttons == {ids[f"flux_speedup_tab_changes_{name}"] for name in names}
