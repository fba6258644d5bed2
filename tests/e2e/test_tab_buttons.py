"""Every button of the tab in a real browser, and what it does to the view behind it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flux_speedup.stats.machine import Measuring
from flux_speedup.ui import models
from tests.fake_view import MODELS, REPORT
from tests.served import MINOR, NO_CLIPBOARD, Served, opened, says

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.both_gradios, pytest.mark.browser]

TAB = "flux_speedup_tab"


def test_the_numbers_are_the_views(served: Served, browser: Browser) -> None:
    page = opened(browser, served.url)
    for part, expected in {
        "head": ("412 s saved since the start", "61.4 s of it in the last request", "estimate", "77.3 GB"),
        "requests": ("5.90 s so far", "sampling", "33.6 GB moved", "62.0 s"),
        "machine": ("55.2 GB/s", "6.4 GB/s", "46.0 GB/s"),
        "memory": ("36.9 GB of 84.9 GB", "23.8 GB", "50.8 GB", "268 MB"),
        "models": ("flux1-dev.safetensors", "33.8 GB on the card", "17.2 GB in files"),
        "start": ("25.4 s before, 9.80 s now", "import torch"),
        "local": ("face_yolov8n.pt", "too small"),
        "log": ("not on this machine",),
    }.items():
        for text in expected:
            says(page, f"{TAB}_{part}", text)
    assert page.locator(f"#{TAB}_rates .fsu-dot").count() == 9
    assert page.complaints == []
    page.context.close()


def test_a_request_is_chosen_with_a_click_and_with_the_keyboard(
    served: Served, browser: Browser, artifacts: Path
) -> None:
    page = opened(browser, served.url)
    page.click(f'#{TAB} [data-fsu-do="request:{served.view.made[2].key}"]')
    says(page, f"{TAB}_requests", "Where the time of request 13 went")
    says(page, f"{TAB}_requests", "ADetailer 2")
    page.locator(f"#{TAB}_requests").first.screenshot(path=artifacts / f"request-gradio-{MINOR}.png")
    # The button that was pressed is a new one now, and still has the focus.
    page.wait_for_function(f"document.activeElement?.dataset.fsuDo === 'request:{served.view.made[2].key}'")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    says(page, f"{TAB}_requests", "Where the time of request 12 went")
    page.click(f'#{TAB} [data-fsu-do="request:{served.view.made[0].key}"]')
    says(page, f"{TAB}_requests", "Where the time of the last request went")
    assert page.complaints == []
    page.context.close()


def test_measuring_shows_its_progress_and_can_be_cancelled(
    served: Served, browser: Browser, artifacts: Path
) -> None:
    view = served.view
    page = opened(browser, served.url)
    page.click(f"#{TAB}_measure")
    says(page, f"{TAB}_measuring", "reading a weight file, 25 %")
    view.measurement = Measuring("running", 0.75, "copying to the card")
    # The page itself is never refreshed here; a measurement under way is followed all the same.
    says(page, f"{TAB}_measuring", "copying to the card, 75 %")
    page.screenshot(path=artifacts / f"measuring-gradio-{MINOR}.png", full_page=True)
    page.click(f"#{TAB}_cancel")
    says(page, f"{TAB}_measuring", "was cancelled")
    page.locator(f"#{TAB}_cancel").wait_for(state="hidden")
    assert [name for name, _ in view.calls] == ["measure", "cancel_measuring"]
    page.click(f"#{TAB}_measure")
    says(page, f"{TAB}_measuring", "25 %")
    view.measurement = Measuring("done", 1.0)
    says(page, f"{TAB}_measuring", "This machine is measured")
    reads = view.asked
    page.wait_for_timeout(2500)
    assert view.asked == reads
    assert page.complaints == []
    page.context.close()


def test_packing_is_shown_and_stopped_and_goes_on(served: Served, browser: Browser, artifacts: Path) -> None:
    view = served.view
    page = opened(browser, served.url)
    says(page, f"{TAB}_packed", "flux1-schnell.safetensors")
    says(page, f"{TAB}_packed", "9.5 GB of 23.8 GB")
    page.click(f'#{TAB} [data-fsu-do="packing:stop"]')
    says(page, f"{TAB}_packed", "Go on packing")
    page.locator(f"#{TAB}_packed").first.screenshot(path=artifacts / f"packed-gradio-{MINOR}.png")
    view.refused = "packed weights are off"
    page.click(f'#{TAB} [data-fsu-do="packing:on"]')
    says(page, f"{TAB}_packed_said", "Not now: packed weights are off")
    view.refused = ""
    page.click(f'#{TAB} [data-fsu-do="packing:on"]')
    says(page, f"{TAB}_packed", "Stop packing")
    assert page.locator(f"#{TAB}_packed_said").first.inner_text().strip() == ""
    assert view.calls == [("pack", (False,)), ("pack", (True,)), ("pack", (True,))]
    assert page.complaints == []
    page.context.close()


def test_models_are_dropped_one_by_one_or_all_leave_the_card(served: Served, browser: Browser) -> None:
    view = served.view
    page = opened(browser, served.url)
    page.click(f'#{TAB} [data-fsu-do="drop:{models.token(MODELS[1])}"]')
    says(page, f"{TAB}_models_said", "Forgot schnell: 0.9 GB of RAM.")
    assert "schnell" not in page.locator(f"#{TAB}_models").first.inner_text()
    page.click(f"#{TAB}_free")
    says(page, f"{TAB}_models_said", "33.8 GB of VRAM are free again.")
    says(page, f"{TAB}_models", "No model is built")
    assert view.calls == [("drop", ("schnell",)), ("drop", ())]
    assert page.complaints == []
    page.context.close()


def test_a_refusal_is_said(served: Served, browser: Browser) -> None:
    view = served.view
    view.refused = "an image is being made"
    page = opened(browser, served.url)
    page.click(f"#{TAB}_free")
    says(page, f"{TAB}_models_said", "Not now: an image is being made")
    page.click(f"#{TAB}_measure")
    says(page, f"{TAB}_measure_said", "Not now: an image is being made")
    page.click(f"#{TAB}_forget")
    page.click(f"#{TAB}_forget_yes")
    says(page, f"{TAB}_statistics_said", "Not now: an image is being made")
    page.context.close()


def test_statistics_are_forgotten_only_after_a_second_yes(
    served: Served, browser: Browser, artifacts: Path
) -> None:
    view = served.view
    page = opened(browser, served.url)
    page.locator(f"#{TAB}_forget_yes").wait_for(state="hidden")
    page.click(f"#{TAB}_forget")
    page.locator(f"#{TAB}_forget_yes").wait_for(state="visible")
    page.screenshot(path=artifacts / f"forget-gradio-{MINOR}.png", full_page=True)
    page.click(f"#{TAB}_forget_no")
    page.locator(f"#{TAB}_forget_yes").wait_for(state="hidden")
    assert view.calls == []
    page.click(f"#{TAB}_forget")
    page.click(f"#{TAB}_forget_yes")
    says(page, f"{TAB}_statistics_said", "The statistics are deleted")
    says(page, f"{TAB}_requests", "No image was made")
    says(page, f"{TAB}_rates", "Nothing was loaded yet")
    says(page, f"{TAB}_loads", "nothing loaded yet")
    page.locator(f"#{TAB}_forget_yes").wait_for(state="hidden")
    assert view.calls == [("forget_statistics", ())]
    assert page.complaints == []
    page.screenshot(path=artifacts / f"empty-gradio-{MINOR}.png", full_page=True)
    page.context.close()


def download(page: Page, button: str) -> tuple[str, str]:
    """Name and text of the file that a button saves."""
    with page.expect_download() as coming:
        page.click(f"#{TAB}_{button}")
    saved = coming.value
    return saved.suggested_filename, Path(saved.path()).read_text(encoding="utf-8")


def test_exports_are_files_with_the_views_figures(served: Served, browser: Browser) -> None:
    view = served.view
    page = opened(browser, served.url)
    name, text = download(page, "json")
    assert name == "flux-speedup.json"
    found = json.loads(text)
    assert found["savings"]["since_start"] == view.saved.since_start
    assert [event["what"] for event in found["events"]] == [event.what for event in view.events()]
    name, text = download(page, "csv")
    assert name == "flux-speedup.csv"
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["what"] for row in rows] == [event.what for event in view.events()]
    # Twice is possible, with what is true then.
    view.kept = view.kept[:3]
    assert len(download(page, "csv")[1].splitlines()) == 4
    assert page.complaints == []
    page.context.close()


@pytest.mark.parametrize("before", ["", NO_CLIPBOARD], ids=["clipboard", "no clipboard of its own"])
def test_a_bug_report_is_copied_and_can_be_read(
    served: Served, browser: Browser, artifacts: Path, before: str
) -> None:
    page = opened(browser, served.url, before=before)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click(f"#{TAB}_copy")
    says(page, f"{TAB}_statistics_said", "Copied.")
    box = page.locator(f"#{TAB}_report textarea")
    assert box.input_value() == REPORT
    page.screenshot(path=artifacts / f"report-gradio-{MINOR}.png", full_page=True)
    box.focus()
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    page.keyboard.press("Control+V")
    assert box.input_value() == REPORT
    assert page.complaints == []
    page.context.close()


def test_where_nothing_may_be_copied_the_report_is_there_to_be_selected(
    served: Served, browser: Browser
) -> None:
    page = opened(browser, served.url, before=NO_CLIPBOARD + "document.execCommand = () => false;")
    page.click(f"#{TAB}_copy")
    says(page, f"{TAB}_statistics_said", "select the text below and copy it")
    assert page.locator(f"#{TAB}_report textarea").input_value() == REPORT
    page.context.close()
