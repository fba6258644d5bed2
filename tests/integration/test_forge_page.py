"""The extension in a real Forge with its page, in Chromium: what a page load, a user and "Reload UI" do to it."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.forge import Forge

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

GIB = 1 << 30
IN_FORCE = {"streams": True, "pinned": True, "inference": 20 * GIB}
# A page that has loaded has posted and received all its events after this long without a change.
QUIET_S = 2.0
# A user's own localisation, with a word for one of our texts.
THEIRS = {"Generate": "Создать", "Free VRAM": "Очистить VRAM"}


@pytest.fixture(scope="module")
def forge(forge_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """Forge with its page and the Flux preset, its memory manager reporting a card of 80 GB."""
    localizations = tmp_path_factory.mktemp("localizations")
    (localizations / "ru_RU.json").write_text(json.dumps(THEIRS))
    # Forge serves its own scripts only where its folder is the data folder, or is allowed.
    served = ("--gradio-allowed-path", str(forge_dir))
    with Forge(
        forge_dir,
        tmp_path_factory.mktemp("page"),
        flags=("--api", *served, "--localizations-dir", str(localizations)),
        options={"forge_preset": "flux"},
        environ={"PROBE_CARD_GIB": "80"},
    ) as running:
        yield running


@pytest.fixture(scope="module")
def page(browser: Browser, forge: Forge) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    opened = context.new_page()
    opened.goto(forge.url)
    opened.wait_for_selector("#tab_txt2img", state="attached")
    yield opened
    context.close()


def watch(forge: Forge, seconds: float = QUIET_S) -> list[dict[str, Any]]:
    """Every memory state seen within the next seconds."""
    seen, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        state = forge.state()
        seen.append({key: state[key] for key in IN_FORCE})
        time.sleep(0.03)
    return seen


def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def pick(page: Page, group: str, choice: str) -> None:
    page.locator("fieldset", has_text=group).get_by_label(choice, exact=True).first.click()


def test_three_page_loads_leave_everything_in_force_and_no_model_unloads_for_them(
    forge: Forge, page: Page
) -> None:
    changes = []
    for _ in range(3):
        page.reload(wait_until="commit")
        seen = watch(forge, 6.0)
        assert all(state == IN_FORCE for state in seen), next(s for s in seen if s != IN_FORCE)
        changes.append(forge.log().count("Environment vars changed"))
    assert changes[0] == changes[-1]
    assert page.get_by_label("Async", exact=True).first.is_checked()
    assert page.get_by_label("Shared", exact=True).first.is_checked()


def test_what_the_user_picks_stays_after_a_page_load(forge: Forge, page: Page) -> None:
    pick(page, "Swap Method", "Queue")
    until(lambda: forge.state()["streams"] is False)
    for _ in range(2):
        page.reload(wait_until="commit")
        seen = watch(forge, 6.0)
        assert all(state == {**IN_FORCE, "streams": False} for state in seen)
    assert page.get_by_label("Queue", exact=True).first.is_checked()
    pick(page, "Swap Method", "Async")
    until(lambda: forge.state()["streams"] is True)
    assert forge.state()["options"]["forge_async_loading"] == "Async"


def test_a_preset_click_keeps_what_is_in_force(forge: Forge, page: Page) -> None:
    for preset in ("xl", "flux"):
        pick(page, "UI", preset)
        seen = watch(forge, 4.0)
        assert all(state == IN_FORCE for state in seen)
    # A click saves all options: none of ours.
    saved = json.loads((forge.data / "config.json").read_text())
    assert saved["forge_preset"] == "flux"
    ours = {
        "forge_async_loading": "Async",
        "forge_pin_shared_memory": "Shared",
        "forge_inference_memory": 20480,
    }
    assert [key for key, value in ours.items() if saved.get(key) == value] == []
    assert not [key for key in saved if key.startswith("flux_speedup")]


def test_settings_section_and_tab_are_there(forge: Forge, page: Page, artifacts: Path) -> None:
    page.get_by_role("tab", name="Flux Speedup").first.click()
    page.get_by_text("large tier", exact=False).first.wait_for()
    page.screenshot(path=str(artifacts / "forge_tab.png"), full_page=True)
    page.get_by_role("tab", name="Settings").first.click()
    page.locator("#settings").get_by_role("tab", name="Flux Speedup").first.click()
    page.locator("#setting_flux_speedup_tier").wait_for()
    page.screenshot(path=str(artifacts / "forge_settings.png"), full_page=True)


def press(forge: Forge, elem_id: str, inputs: int, **headers: str) -> str:
    """Press a button as anybody on the network can, without a browser: all that the page answers."""
    config = forge.get("/config")
    (button,) = [c["id"] for c in config["components"] if c["props"].get("elem_id") == elem_id]
    clicks = [each for each in config["dependencies"] if [button, "click"] in each["targets"]]
    (pressed,) = [each for each in clicks if len(each["inputs"]) == inputs]
    body = json.dumps(
        {"data": [None, {}][:inputs], "fn_index": pressed["id"], "session_hash": "nobody"}
    ).encode()
    request = urllib.request.Request(
        f"{forge.url}/run/predict", body, {"Content-Type": "application/json", **headers}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.read().decode())


def test_whoever_reaches_the_page_reaches_no_button_that_the_api_would_refuse(forge: Forge) -> None:
    # `--server-name` makes Forge refuse changes of extensions, as `--listen` does.
    before = forge.get("/flux-speedup/v1/status")
    for button, inputs in (("changes_put_back_yes", 0), ("changes_again", 0), ("free", 2), ("measure", 2)):
        said = press(forge, f"flux_speedup_tab_{button}", inputs)
        assert "extension access is disabled" in said, (button, said[:500])
    assert "may not ask" in press(forge, "flux_speedup_tab_free", 2, Origin="https://evil.example")
    assert forge.get("/flux-speedup/v1/status") == before
    assert forge.state()["streams"] is True


def test_with_a_russian_localisation_our_texts_are_russian_until_it_is_switched_off(
    forge: Forge, page: Page, artifacts: Path
) -> None:
    page.evaluate("() => { if (Object.keys(window.localization).length) throw new Error('not empty') }")
    forge.post("/sdapi/v1/options", {"localization": "ru_RU"})
    forge.reload_ui()
    reopen(page, forge)
    page.get_by_role("tab", name="Flux Speedup").first.click()
    for text in (
        "Измерить эту машину",
        "Уровень памяти:",
        "Сохранённые модели",
        "применено",
        "Очистить VRAM",
    ):
        page.locator("#flux_speedup_tab").get_by_text(text).first.wait_for()
    assert page.locator("#txt2img_generate").inner_text().strip() == "Создать"
    page.screenshot(path=str(artifacts / "forge_tab_ru.png"), full_page=True)
    page.get_by_role("tab", name="Settings").first.click()
    page.locator("#settings").get_by_role("tab", name="Flux Speedup").first.click()
    for text in ("Уровень памяти", "по конфигурации", "(on выбирает по объёму видеопамяти"):
        page.locator("#setting_flux_speedup_tier").get_by_text(text).first.wait_for()
    page.screenshot(path=str(artifacts / "forge_settings_ru.png"), full_page=True)
    forge.post("/sdapi/v1/options", {"flux_speedup_translations": "off"})
    forge.reload_ui()
    reopen(page, forge)
    assert page.evaluate("() => window.localization") == THEIRS
    page.get_by_role("tab", name="Flux Speedup").first.click()
    page.locator("#flux_speedup_tab").get_by_text("Measure this machine").first.wait_for()
    forge.post("/sdapi/v1/options", {"flux_speedup_translations": "as configured", "localization": "None"})


def reopen(page: Page, forge: Forge) -> None:
    page.goto(forge.url)
    page.wait_for_selector("#tab_txt2img", state="attached")


def test_reload_ui_twice_keeps_everything_and_switched_off_restores_it(forge: Forge) -> None:
    for _ in range(2):
        forge.reload_ui()
        state = forge.state()
        assert {key: state[key] for key in IN_FORCE} == IN_FORCE
        assert all("flux_speedup" in file for file in state["functions"].values())
    forge.post("/sdapi/v1/options", {"flux_speedup_enabled": "off"})
    forge.reload_ui()
    state = forge.state()
    assert [file for file in state["functions"].values() if "flux_speedup" in file] == []
    assert state["finders"] == []
    assert (state["vram_state"], state["inference"]) == ("NORMAL_VRAM", GIB)
    assert (state["pinned"], state["streams"]) == (False, False)
    # They were not in the settings file, and they are not there now.
    assert set(state["options"].values()) == {None}
    forge.post("/sdapi/v1/options", {"flux_speedup_enabled": "as configured"})
    forge.reload_ui()
    state = forge.state()
    assert {key: state[key] for key in IN_FORCE} == IN_FORCE


def test_what_another_start_had_in_force_is_nothing_of_this_one(forge: Forge) -> None:
    forge.post("/sdapi/v1/options", {"flux_speedup_tier": "off"})
    forge.reload_ui()
    told = {each["item"]: each["state"] for each in forge.get("/flux-speedup/v1/status")["outcomes"]}
    assert "vram_state" not in told
    assert set(told.values()) == {"applied", "skipped"}
    forge.post("/sdapi/v1/options", {"flux_speedup_tier": "as configured"})
    forge.reload_ui()
    assert {key: forge.state()[key] for key in IN_FORCE} == IN_FORCE
