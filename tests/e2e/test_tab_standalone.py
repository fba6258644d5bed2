"""Tab and settings panel in a real browser, served by gradio alone, with a view in memory behind them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
import pytest

from flux_speedup.patches import Outcome, State
from flux_speedup.stats.events import Event
from flux_speedup.ui import changes, tab
from tests.fake_view import NASTY, FakeView

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = [pytest.mark.both_gradios, pytest.mark.browser]

MINOR = ".".join(gr.__version__.split(".")[:2])
WAIT_MS = 20_000


class Served:
    """The page as a WebUI builds it: each part Blocks of its own, rendered into one page with tabs."""

    def __init__(self, view: FakeView, port: int) -> None:
        self.view = view
        page = tab.build(view)
        with gr.Blocks(analytics_enabled=False) as settings:
            changes.build(view, label="", value="", elem_id="setting_flux_speedup_changes")
        with gr.Blocks(analytics_enabled=False) as self.demo, gr.Tabs():
            with gr.TabItem("Flux Speedup"):
                page.render()
            with gr.TabItem("Settings"):
                settings.render()
        self.demo.queue()
        self.demo.launch(
            server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True, show_api=False
        )
        self.url = f"http://127.0.0.1:{port}/"


@pytest.fixture
def served(free_port: int) -> Iterator[Served]:
    running = Served(FakeView(), free_port)
    yield running
    running.demo.close(verbose=False)


def only_here(route: Route) -> None:
    """Let nothing out of this machine: gradio's own theme asks for fonts."""
    if route.request.url.startswith(("http://127.0.0.1:", "data:")):
        route.continue_()
    else:
        route.abort()


def opened(browser: Browser, url: str, *, theme: str = "light", width: int = 1200) -> Page:
    """The page, loaded and filled; errors in it fail the test that looks at `errors`."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    context.route("**/*", only_here)
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    page.goto(f"{url}?__theme={theme}")
    page.wait_for_selector("#flux_speedup_tab_changes_keep label")
    page.locator("#flux_speedup_tab_loads").scroll_into_view_if_needed()
    page.wait_for_selector("#flux_speedup_tab_loads td:has-text('transformer')")
    return page


def says(page: Page, elem_id: str, text: str) -> None:
    from playwright.sync_api import expect

    # gradio 3 gives an HTML component's id to its inner element too.
    expect(page.locator(f"#{elem_id}").first).to_contain_text(text, timeout=WAIT_MS)


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
    cut = page.locator(".fsu-card, .fsu-tile, .fsu-row, .fsu-panel button").evaluate_all(
        "boxes => boxes.filter(box => box.scrollWidth > box.clientWidth + 1).length"
    )
    assert cut == 0
    size = "all => all.map(one => parseFloat(getComputedStyle(one).fontSize))"
    sizes = page.locator(".fsu *").evaluate_all(size)
    assert min(sizes) >= 12
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

    page.click("#flux_speedup_tab_changes_put_back")
    says(page, "flux_speedup_tab_changes", "Put back: VRAM mode: high")
    says(page, "flux_speedup_tab_changes_list", "4 put back")
    page.locator("#flux_speedup_tab_changes_keep").wait_for(state="hidden")
    assert view.calls[-1] == ("put_everything_back", ())
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
    says(page, "setting_flux_speedup_changes_list", "7 moves, 77.3 GB in 1.7 s; 2 checkpoints in 3.1 s")
    says(page, "setting_flux_speedup_changes_list", "1 put back")
    page.screenshot(path=artifacts / f"settings-gradio-{MINOR}-dark.png", full_page=True)
    page.locator("#setting_flux_speedup_changes_keep label", has_text="Pinned weights").click()
    page.click("#setting_flux_speedup_changes_apply")
    says(page, "setting_flux_speedup_changes", "Put back: Pinned weights")
    assert view.calls[-1] == ("keep_only", ("tier.inference", "streams", "timing"))
    page.click("#setting_flux_speedup_changes_put_back")
    says(page, "setting_flux_speedup_changes", "Copy streams")
    says(page, "setting_flux_speedup_changes_list", "4 put back")
    page.context.close()


def test_hostile_names_are_shown_as_text(served: Served, browser: Browser, artifacts: Path) -> None:
    view = served.view
    view.outcomes = tuple(Outcome(f"odd{i}", name, State.APPLIED, name) for i, name in enumerate(NASTY))
    odd = [Event(kind, name, 10**9, 1.0, name, name) for name in NASTY for kind in ("move", "startup")]
    view.kept = [*view.kept, *odd]
    page = opened(browser, served.url)
    says(page, "flux_speedup_tab_status", "<script>document.title='owned'</script>")
    says(page, "flux_speedup_tab_loads", "<script>document.title='owned'</script>")
    says(page, "flux_speedup_tab_changes_keep", "<img src=x onerror=")
    says(page, "flux_speedup_tab_start", "מודל-עברי.safetensors")
    page.screenshot(path=artifacts / f"tab-gradio-{MINOR}-hostile.png", full_page=True)
    assert page.title() != "owned"
    assert page.locator("#flux_speedup_tab_status img, #flux_speedup_tab_loads td img").count() == 0
    page.context.close()
