"""The tab and the settings panel served by gradio alone, as a WebUI builds its page, and ways to look at it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import gradio as gr
import pytest

from flux_speedup.ui import changes, tab
from tests.fake_view import FakeView

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

MINOR = ".".join(gr.__version__.split(".")[:2])
WAIT_MS = 60_000
# A page that a test can hide, and no clipboard of its own where a test says so.
BEFORE = """
Object.defineProperty(document, "hidden", { get: () => window.testHidden === true });
"""
NO_CLIPBOARD = 'Object.defineProperty(navigator, "clipboard", { value: undefined });'


class Served:
    """The page as a WebUI builds it: each part Blocks of its own, rendered into one page with tabs."""

    def __init__(self, view: FakeView, port: int) -> None:
        self.view = view
        page = tab.build(view, view)
        with gr.Blocks(analytics_enabled=False) as settings:
            changes.build(view, view, label="", value="", elem_id="setting_flux_speedup_changes")
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
    if route.request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
        route.continue_()
    else:
        route.abort()


def opened(
    browser: Browser,
    url: str,
    *,
    theme: str = "light",
    width: int = 1200,
    before: str = "",
    wait: bool = True,
) -> Page:
    """The page, loaded and filled. What it complains about is in its attribute `complaints`."""
    context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)
    context.route("**/*", only_here)
    context.set_default_timeout(WAIT_MS)
    context.add_init_script(BEFORE + before)
    page = context.new_page()
    page.complaints = []  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: page.complaints.append(str(error)))  # type: ignore[attr-defined]
    page.on(
        "console",
        lambda said: (
            page.complaints.append(said.text)  # type: ignore[attr-defined]
            if said.type == "error" and not outside(said.text, said.location.get("url", ""))
            else None
        ),
    )
    page.goto(f"{url}?__theme={theme}")
    if wait:
        page.wait_for_selector("#flux_speedup_tab_changes_keep label")
        page.wait_for_selector("#flux_speedup_tab_loads td:has-text('transformer')")
    return page


def outside(words: str, url: str) -> bool:
    """A complaint about what `only_here` keeps the page from fetching."""
    return "fonts.g" in words + url or ("ERR_FAILED" in words and "127.0.0.1" not in url)


def says(page: Page, elem_id: str, text: str) -> None:
    from playwright.sync_api import expect

    # gradio 3 gives an HTML component's id to its inner element too.
    expect(page.locator(f"#{elem_id}").first).to_contain_text(text, timeout=WAIT_MS)


def until(condition: Callable[[], bool], page: Page, seconds: float = 60.0) -> None:
    """Wait in the page's own time, so that its events are heard."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        page.wait_for_timeout(50)
