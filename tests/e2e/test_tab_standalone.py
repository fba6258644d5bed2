"""Tab and settings panel in a real browser, served by gradio alone, with a view in memory behind them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flux_speedup.patching.table import Outcome, State
from flux_speedup.stats.events import Event
from tests.fake_view import NASTY, full_of
from tests.served import MINOR, Served, opened, says

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.both_gradios, pytest.mark.browser]


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("width", [1200, 360])
def test_it_is_legible(served: Served, browser: Browser, artifacts: Path, theme: str, width: int) -> None:
    served.view.simulated = theme == "dark"
    page = opened(browser, served.url, theme=theme, width=width)
    says(page, "flux_speedup_tab_head", "77.3 GB")
    if served.view.simulated:
        says(page, "flux_speedup_tab_head", "simulated device, our stand-in")
    else:
        assert "simulated" not in page.locator("#flux_speedup_tab_head").first.inner_text()
    page.screenshot(path=artifacts / f"tab-gradio-{MINOR}-{theme}-{width}.png", full_page=True)
    # The page itself never scrolls sideways, and no text is cut or smaller than one can read.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = page.locator(
        ".fsu-card, .fsu-tile, .fsu-row, .fsu-stage, .fsu-key, .fsu-scroll, .fsu-panel button"
    ).evaluate_all("boxes => boxes.filter(box => box.scrollWidth > box.clientWidth + 1).length")
    assert cut == 0
    size = "all => all.map(one => parseFloat(getComputedStyle(one).fontSize))"
    sizes = page.locator(".fsu *").evaluate_all(size)
    assert min(sizes) >= 12
    assert page.complaints == []
    page.context.close()


def test_every_button_and_the_numbers_change(served: Served, browser: Browser, artifacts: Path) -> None:
    view = served.view
    page = opened(browser, served.url)
    view.kept = [*view.kept, Event("move", "controlnet", 20_000_000_000, 0.4, "RAM", "GPU")]
    page.click("#flux_speedup_tab_refresh")
    says(page, "flux_speedup_tab_head", "97.3 GB")
    says(page, "flux_speedup_tab_head", "8 moves")
    says(page, "flux_speedup_tab_loads", "controlnet")

    page.click("#flux_speedup_tab_changes_apply")
    says(page, "flux_speedup_tab_changes", "Nothing was unticked")
    assert view.calls == []

    page.locator("#flux_speedup_tab_changes_keep label", has_text="Copy streams").click()
    page.click("#flux_speedup_tab_changes_apply")
    says(page, "flux_speedup_tab_changes", "Put back: Copy streams")
    says(page, "flux_speedup_tab_status", "put back")
    says(page, "flux_speedup_tab_changes_list", "3 applied")
    assert view.calls == [("keep_only", ("tier.vram_state", "tier.inference", "pinning", "timing"))]
    assert page.locator("#flux_speedup_tab_changes_keep label").count() == 3
    page.screenshot(path=artifacts / f"tab-gradio-{MINOR}-after-apply.png", full_page=True)

    calls = len(view.calls)
    page.click("#flux_speedup_tab_changes_put_back")
    page.locator("#flux_speedup_tab_changes_put_back_no").click()
    page.locator("#flux_speedup_tab_changes_put_back_yes").wait_for(state="hidden")
    assert len(view.calls) == calls, "it asks first"
    page.click("#flux_speedup_tab_changes_put_back")
    page.locator("#flux_speedup_tab_changes_put_back_yes").click()
    says(page, "flux_speedup_tab_changes", "Put back: VRAM mode: high")
    says(page, "flux_speedup_tab_changes_list", "4 put back")
    page.locator("#flux_speedup_tab_changes_keep").wait_for(state="hidden")
    assert view.calls[-1] == ("put_everything_back", ())
    page.locator("#flux_speedup_tab_head .fsu-badge", has_text="off").wait_for()
    page.click("#flux_speedup_tab_changes_again")
    says(page, "flux_speedup_tab_changes", "In force again")
    page.locator("#flux_speedup_tab_head .fsu-badge", has_text="on").wait_for()
    assert view.calls[-1] == ("apply_again", ())
    page.context.close()


def test_a_page_load_shows_what_is_true_then(served: Served, browser: Browser) -> None:
    view = served.view
    opened(browser, served.url).context.close()
    view.kept = [*view.kept, Event("move", "controlnet", 20_000_000_000, 0.4, "RAM", "GPU")]
    view.keep_only(["streams", "pinning"])
    page = opened(browser, served.url)
    says(page, "flux_speedup_tab_head", "97.3 GB")
    says(page, "flux_speedup_tab_loads", "controlnet")
    says(page, "flux_speedup_tab_status", "put back")
    says(page, "flux_speedup_tab_changes_list", "2 put back")
    page.wait_for_function("document.querySelectorAll('#flux_speedup_tab_changes_keep label').length == 2")
    page.context.close()


def test_the_settings_panel_does_the_same(served: Served, browser: Browser, artifacts: Path) -> None:
    view = served.view
    view.keep_only(["streams", "pinning", "tier.inference"])
    page = opened(browser, served.url, theme="dark")
    page.locator("button:visible", has_text="Settings").first.click()
    says(page, "setting_flux_speedup_changes_list", "7 moves, 77.3 GB in 1.68 s; 2 checkpoints in 3.10 s")
    says(page, "setting_flux_speedup_changes_list", "1 put back")
    page.screenshot(path=artifacts / f"settings-gradio-{MINOR}-dark.png", full_page=True)
    page.locator("#setting_flux_speedup_changes_keep label", has_text="Pinned weights").click()
    page.click("#setting_flux_speedup_changes_apply")
    says(page, "setting_flux_speedup_changes", "Put back: Pinned weights")
    assert view.calls[-1] == ("keep_only", ("tier.inference", "streams", "timing"))
    page.click("#setting_flux_speedup_changes_put_back")
    page.locator("#setting_flux_speedup_changes_put_back_yes").click()
    says(page, "setting_flux_speedup_changes", "Copy streams")
    says(page, "setting_flux_speedup_changes_list", "4 put back")
    page.context.close()


def test_hostile_names_are_shown_as_text(served: Served, browser: Browser, artifacts: Path) -> None:
    served.view.__dict__.update(full_of(NASTY[0]).__dict__)
    view = served.view
    view.outcomes = tuple(Outcome(f"odd{i}", name, State.APPLIED, name) for i, name in enumerate(NASTY))
    odd = [Event(kind, name, 10**9, 1.0, name, name) for name in NASTY for kind in ("move", "startup")]
    view.kept = [*view.kept, *odd]
    page = opened(browser, served.url, wait=False)
    says(page, "flux_speedup_tab_loads", "<script>document.title='owned'</script>")
    says(page, "flux_speedup_tab_changes_keep", "<img src=x onerror=")
    says(page, "flux_speedup_tab_start", "מודל-עברי.safetensors")
    for part in ("head", "status", "requests", "machine", "memory", "models", "local", "log"):
        says(page, f"flux_speedup_tab_{part}", "<script>document.title='owned'</script>")
    page.screenshot(path=artifacts / f"tab-gradio-{MINOR}-hostile.png", full_page=True)
    assert page.title() != "owned"
    assert page.locator("#flux_speedup_tab img, #flux_speedup_tab .fsu script").count() == 0
    assert page.complaints == []
    page.context.close()


def test_every_change_can_be_unticked(served: Served, browser: Browser, artifacts: Path) -> None:
    view = served.view
    view.outcomes = tuple(Outcome(f"item{n}", f"Change number {n}", State.APPLIED, "why") for n in range(24))
    page = opened(browser, served.url, width=1000)
    page.wait_for_function("document.querySelectorAll('#flux_speedup_tab_changes_keep label').length == 24")
    page.screenshot(path=artifacts / f"tab-gradio-{MINOR}-many-changes.png", full_page=True)
    boxes = page.locator("#flux_speedup_tab_changes_keep label")
    lefts = {round(boxes.nth(n).bounding_box()["x"]) for n in range(24)}  # type: ignore[index]
    assert len(lefts) == 1, "all in one column"
    boxes.nth(23).click()
    page.click("#flux_speedup_tab_changes_apply")
    says(page, "flux_speedup_tab_changes", "Put back: Change number 23")
    page.context.close()
