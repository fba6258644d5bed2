"""The tab in a WebUI that runs: its figures compared with the API's, its buttons pressed, pictures of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flux_speedup.stats.report import seconds, size, span
from flux_speedup.ui.requests import name, ordered
from flux_speedup.ui.words import gb_s
from tests.served import opened, says, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TAB = "flux_speedup_tab"
V1 = "/flux-speedup/v1"
CHILDREN = "rows => rows.map(row => [...row.children].map(child => child.textContent.trim()))"
MEASURING_S = 120.0
Get = Callable[[str], Any]


def opened_tab(browser: Browser, url: str) -> Page:
    """The WebUI's page with our tab in front, filled."""
    page = opened(browser, url, width=1400, wait=False)
    page.locator("button", has_text="Flux Speedup").first.click(timeout=60_000)
    page.wait_for_selector(f"#{TAB}_head .fsu-tile")
    page.wait_for_selector(f"#{TAB}_changes_keep label")
    return page


def rows(page: Page, selector: str) -> list[list[str]]:
    """The texts of each matching element's children."""
    found: list[list[str]] = page.locator(f"#{TAB}_{selector}").evaluate_all(CHILDREN)
    return found


def text(page: Page, part: str) -> str:
    """What a part says, on one line."""
    return " ".join(page.locator(f"#{TAB}_{part}").first.inner_text().split())


def refreshed(page: Page) -> None:
    """Press Refresh and wait for its answer."""
    tick = f"document.querySelector('#{TAB}_pulse [data-fsu-tick]').dataset.fsuTick"
    before = page.evaluate(tick)
    page.click(f"#{TAB}_refresh")
    page.wait_for_function(f"{tick} !== '{before}'")


def agrees(page: Page, get: Get) -> None:
    """The figures of the tab are the API's. Nothing may run meanwhile."""
    refreshed(page)
    _head_agrees(page, get)
    outcomes = get(f"{V1}/status")["outcomes"]
    assert rows(page, "status .fsu-row") == [[one["state"], one["title"], one["why"]] for one in outcomes]
    _loads_agree(page, get)
    newest = get(f"{V1}/requests")["requests"][0]
    legend = [row[1:3] for row in rows(page, "requests .fsu-legend .fsu-key")]
    assert legend == [[name(part), seconds(spent)] for part, spent in ordered(newest["parts"])]
    shown = text(page, "requests")
    assert f"{newest['kind']} · from the {newest['via']}" in shown
    assert f" {span(newest['seconds'])} " in shown
    models = [" ".join(row) for row in rows(page, "models .fsu-model")]
    for said, model in zip(models, get(f"{V1}/models"), strict=True):
        assert model["name"] in said
        assert model["where"] in said
        for places in ("file_bytes", "device_bytes", "ram_bytes"):
            assert not model[places] or size(model[places]) in said
    memory = get(f"{V1}/machine")["memory"]
    said = text(page, "memory")
    for key in ("ram_total", "pinned", "vram_total"):
        assert memory[key] is None or size(memory[key]) in said
    for part in memory["vram_by_model"]:
        assert not part["bytes"] or f"{part['component']} {size(part['bytes'])}" in said


def _head_agrees(page: Page, get: Get) -> None:
    totals = get(f"{V1}/stats")["totals"]
    savings = get(f"{V1}/requests")["savings"]
    start = get(f"{V1}/stats?kind=startup&model=total&limit=1")["events"][0]
    said = text(page, "head")
    saved = savings["since_start"]
    assert f"{span(abs(saved))} {'lost' if saved < 0 else 'saved'} since the start" in said
    assert savings["how"] in said
    moves, built = totals["move"], totals["checkpoint"]
    plural = "" if moves["count"] == 1 else "s"
    for expected in (
        f"Moved to the device {size(moves['bytes'])} {moves['count']} move{plural} in {seconds(moves['seconds'])}",
        f"Checkpoints built {built['count']} in {seconds(built['seconds'])}",
        f"Start of the WebUI {seconds(start['seconds'])}",
    ):
        assert expected in said


def _loads_agree(page: Page, get: Get) -> None:
    loads = [each for each in get(f"{V1}/stats?limit=1000")["events"] if each["kind"] != "startup"][:50]
    assert loads
    shown = [[row[1], row[2], row[3], row[6]] for row in rows(page, "loads tbody tr")]
    assert shown == [
        [
            each["what"],
            figure(each["bytes"] / 1e9) if each["bytes"] else "",
            figure(each["seconds"]),
            each["kind"],
        ]
        for each in loads
    ]


def figure(value: float) -> str:
    return f"{float(f'{value:.3g}'):g}"


def measured(page: Page, get: Get) -> None:
    """Measure this machine to the end; what is shown is what the API says was found."""
    before = get(f"{V1}/machine")["measured"]
    page.click(f"#{TAB}_measure")
    until(lambda: get(f"{V1}/machine")["measured"] != before, page, MEASURING_S)
    says(page, f"{TAB}_measuring", "This machine is measured")
    page.locator(f"#{TAB}_cancel").wait_for(state="hidden")
    refreshed(page)
    found = get(f"{V1}/machine")["measured"]
    speeds = {row[0]: row[2] for row in rows(page, "machine .fsu-speed")}
    assert speeds["page cache"] == gb_s(found["page_cache"])
    assert speeds["disk, cold"] == gb_s(found["disk"])
    assert speeds["bus: RAM to card"] == gb_s(found["bus"])


def exported(page: Page, get: Get) -> None:
    """Both exports hold what the API tells."""
    stats = get(f"{V1}/stats?limit=1000")
    document = json.loads(_download(page, "json"))
    assert document["totals"]["by_kind"].keys() == stats["totals"].keys()
    assert [each["what"] for each in document["events"]] == [each["what"] for each in stats["events"]]
    table = list(csv.DictReader(_download(page, "csv").splitlines()))
    assert [row["what"] for row in table] == [each["what"] for each in stats["events"]]
    assert [int(row["bytes"]) for row in table] == [each["bytes"] for each in stats["events"]]


def _download(page: Page, button: str) -> str:
    with page.expect_download() as coming:
        page.click(f"#{TAB}_{button}")
    return Path(coming.value.path()).read_text(encoding="utf-8")


def reported(page: Page, private: tuple[str, ...]) -> str:
    """Copy the bug report, which names nothing of `private`."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click(f"#{TAB}_copy")
    says(page, f"{TAB}_statistics_said", "Copied.")
    report = page.locator(f"#{TAB}_report textarea").input_value()
    assert report.startswith("flux-speedup ")
    assert page.evaluate("navigator.clipboard.readText()") == report
    assert [word for word in private if word in report] == []
    return report


def put_back(page: Page, get: Get, title: str) -> None:
    """Untick one change and apply, then put everything back: the tab and the API say so."""
    page.locator(f"#{TAB}_changes_keep label", has_text=title).click()
    page.click(f"#{TAB}_changes_apply")
    says(page, f"{TAB}_changes", f"Put back: {title}")
    assert [one["title"] for one in get(f"{V1}/status")["outcomes"] if one["state"] == "put back"] == [title]
    before = _states(get)
    _put_everything_back(page)
    page.click(f"#{TAB}_changes_again")
    says(page, f"{TAB}_changes", "In force again")
    assert get(f"{V1}/status")["enabled"]
    # What is meant for a start, before there is a model, is not made again with one.
    assert _states(get, but="garbage") == {k: v for k, v in before.items() if k != "garbage"}
    _put_everything_back(page)
    assert not get(f"{V1}/status")["enabled"]
    outcomes = get(f"{V1}/status")["outcomes"]
    assert "applied" not in {one["state"] for one in outcomes}
    refreshed(page)
    assert rows(page, "status .fsu-row") == [[one["state"], one["title"], one["why"]] for one in outcomes]


def _states(get: Get, but: str = "") -> dict[str, str]:
    return {one["item"]: one["state"] for one in get(f"{V1}/status")["outcomes"] if one["item"] != but}


def _put_everything_back(page: Page) -> None:
    page.click(f"#{TAB}_changes_put_back")
    page.locator(f"#{TAB}_changes_put_back_yes").click()
    page.locator(f"#{TAB}_changes_keep").first.wait_for(state="hidden")
    says(page, f"{TAB}_head", "off")


def forgotten(page: Page, get: Get) -> None:
    """Forget the statistics, after a No."""
    page.click(f"#{TAB}_forget")
    page.click(f"#{TAB}_forget_no")
    page.locator(f"#{TAB}_forget_yes").wait_for(state="hidden")
    assert get(f"{V1}/stats")["events"]
    page.click(f"#{TAB}_forget")
    page.click(f"#{TAB}_forget_yes")
    says(page, f"{TAB}_statistics_said", "The statistics are deleted")
    says(page, f"{TAB}_requests", "No image was made")
    assert get(f"{V1}/stats")["events"] == []
    assert get(f"{V1}/requests")["requests"] == []


def pictures(page: Page, artifacts: Path, file: str) -> None:
    """Light and dark, wide and 360 px; nothing sticks out, nothing is cut off."""
    for width in (1400, 360):
        page.set_viewport_size({"width": width, "height": 900})
        for theme in ("light", "dark"):
            page.evaluate(f"document.body.classList.toggle('dark', {str(theme == 'dark').lower()})")
            page.wait_for_timeout(200)
            page.screenshot(path=artifacts / f"{file}-{theme}-{width}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        boxes = page.locator(
            ".fsu-card, .fsu-tile, .fsu-row, .fsu-stage, .fsu-key, .fsu-scroll, .fsu-panel button"
        )
        cut = "boxes => boxes.filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.innerText)"
        assert boxes.evaluate_all(cut) == []
    page.evaluate("document.body.classList.remove('dark')")
    page.set_viewport_size({"width": 1400, "height": 900})
