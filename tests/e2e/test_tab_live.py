"""The tab refreshes itself while somebody looks at it, and disturbs nobody."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from flux_speedup.stats.events import Event
from flux_speedup.stats.machine import Savings
from flux_speedup.ui import models
from tests.fake_view import MODELS
from tests.served import Served, opened, says, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.both_gradios, pytest.mark.browser]

TAB = "flux_speedup_tab"
# Long enough for several refreshes at 0.5 s.
WHILE_MS = 2_500


def test_numbers_follow_while_the_tab_is_looked_at_and_only_then(served: Served, browser: Browser) -> None:
    view = served.view
    view.refresh = 0.5
    page = opened(browser, served.url)
    says(page, f"{TAB}_pulse", "refreshed every 0.5 s")
    view.saved = Savings(1234.0, 98.7, False, "measured here")
    says(page, f"{TAB}_head", "20 min 34 s saved since the start")
    view.kept = [*view.kept, Event("move", "controlnet", 20_000_000_000, 0.4, "RAM", "GPU")]
    says(page, f"{TAB}_loads", "controlnet")

    page.evaluate("window.testHidden = true")
    unasked(page, served)
    page.evaluate("window.testHidden = false")
    asked(page, served)

    page.evaluate("{ const now = Date.now; Date.now = () => now() - 3600000; }")  # the clock is put right
    asked(page, served)

    page.locator("button:visible", has_text="Settings").first.click()
    unasked(page, served)
    view.saved = Savings(0.0, None, False, "measured here")
    page.locator("button:visible", has_text="Flux Speedup").first.click()
    says(page, f"{TAB}_head", "0 s saved since the start")
    asked(page, served)
    assert page.complaints == []
    page.context.close()


def test_a_rate_of_0_asks_never_and_the_button_still_does(served: Served, browser: Browser) -> None:
    page = opened(browser, served.url)
    says(page, f"{TAB}_pulse", "refreshed when you ask")
    unasked(page, served)
    before = served.view.reads
    page.click(f"#{TAB}_refresh")
    until(lambda: served.view.reads == before + 1, page)
    page.context.close()


def test_what_somebody_does_meanwhile_stays(served: Served, browser: Browser) -> None:
    view = served.view
    inside = [Event("startup", f"load scripts/{i}.py", 0, 0.1, "", "", time.time()) for i in range(3)]
    view.kept = [*view.kept, *inside]
    view.refresh = 0.5
    page = opened(browser, served.url)
    page.click(f'#{TAB} [data-fsu-do="request:{served.view.made[2].key}"]')
    says(page, f"{TAB}_requests", "request 13 went")
    copy_streams = page.locator(f"#{TAB}_changes_keep label", has_text="Copy streams").locator("input")
    copy_streams.uncheck()
    page.locator(f"#{TAB}_start summary").first.click()
    page.locator(f"#{TAB}_start details[open]").first.wait_for()
    table = f"document.querySelector('#{TAB}_loads .fsu-scroll')"
    page.evaluate(f"{table}.scrollTo(0, 60)")
    drop = f"drop:{models.token(MODELS[1])}"
    page.focus(f'#{TAB} [data-fsu-do="{drop}"]')
    # Away from what has the focus, and from the end of the page.
    page.evaluate("window.scrollTo({top: 400, behavior: 'instant'})")
    # Everything is drawn anew.
    view.built = [*view.built, replace(MODELS[1], key="third", name="third.safetensors")]
    view.kept = [*view.kept, Event("startup", "load scripts/9.py", 0, 0.2, "", "", time.time())]
    view.kept += [Event("move", f"part {i}", 10**9, 0.1, "RAM", "GPU", time.time()) for i in range(20)]
    view.made = [replace(one, images=one.images + 5) for one in view.made]
    says(page, f"{TAB}_models", "third.safetensors")
    says(page, f"{TAB}_requests", "9 images")
    asked(page, served)
    says(page, f"{TAB}_requests", "request 13 went")
    assert page.evaluate("document.activeElement?.dataset.fsuDo") == drop
    assert page.locator(f"#{TAB}_start details[open]").count() >= 1
    assert not copy_streams.is_checked()
    assert page.evaluate("window.scrollY") == 400
    assert page.evaluate(f"{table}.scrollTop") == 60
    assert page.complaints == []
    page.context.close()


def test_what_is_unticked_before_the_first_figures_come_stays_so(served: Served, browser: Browser) -> None:
    served.view.refresh, served.view.slow = 0.3, 3.0
    page = opened(browser, served.url, wait=False)
    copy_streams = page.locator(f"#{TAB}_changes_keep label", has_text="Copy streams").locator("input")
    copy_streams.uncheck()
    assert page.locator(f"#{TAB}_pulse [data-fsu-tick]").count() == 0, "before the first figures"
    served.view.slow = 0.0
    says(page, f"{TAB}_loads", "transformer")
    asked(page, served)
    assert not copy_streams.is_checked()
    page.context.close()


def test_focus_that_was_given_up_is_not_brought_back(served: Served, browser: Browser) -> None:
    view = served.view
    view.refresh = 0.5
    page = opened(browser, served.url)
    page.focus(f'#{TAB} [data-fsu-do="drop:{models.token(MODELS[1])}"]')
    page.evaluate("document.activeElement.blur()")
    view.built = [*view.built, replace(MODELS[1], key="third", name="third.safetensors")]
    says(page, f"{TAB}_models", "third.safetensors")
    assert page.evaluate("document.activeElement === document.body")
    page.context.close()


def test_nothing_fades_or_vanishes_while_an_answer_is_awaited(served: Served, browser: Browser) -> None:
    view = served.view
    view.refresh, view.slow = 0.5, 0.4
    page = opened(browser, served.url)
    page.evaluate(
        """() => {
          window.lowest = 1; window.frames = 0;
          const watch = () => {
            for (const part of document.querySelectorAll("#flux_speedup_tab .fsu-card")) {
              window.frames += 1;
              if (!part.innerText.trim()) window.lowest = 0;
              for (let node = part; node; node = node.parentElement)
                window.lowest = Math.min(window.lowest, Number(getComputedStyle(node).opacity));
            }
            requestAnimationFrame(watch);
          };
          watch();
        }"""
    )
    asked(page, served)
    asked(page, served)
    assert page.evaluate("window.frames") > 10
    assert page.evaluate("window.lowest") == 1
    page.context.close()


def test_somebody_who_selects_text_keeps_the_selection(served: Served, browser: Browser) -> None:
    view = served.view
    view.refresh = 0.5
    page = opened(browser, served.url)
    page.evaluate(
        f"getSelection().selectAllChildren(document.querySelector('#{TAB}_log .fsu-log').firstElementChild)"
    )
    unasked(page, served)
    assert "05:06:00" in page.evaluate("getSelection().toString()")
    page.evaluate("getSelection().removeAllRanges()")
    asked(page, served)
    page.context.close()


def test_a_server_that_is_gone_is_not_asked_again_and_again(served: Served, browser: Browser) -> None:
    view = served.view
    view.refresh = 0.5
    page = opened(browser, served.url)
    asked(page, served)
    failed: list[str] = []
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.context.set_offline(True)
    page.wait_for_timeout(4 * WHILE_MS // 2)
    assert len([url for url in failed if "predict" in url or "queue/join" in url]) <= 2
    page.context.close()


def asked(page: Page, served: Served) -> None:
    """The page asks at least twice more."""
    before = served.view.reads
    page.wait_for_timeout(200)
    until(lambda: served.view.reads >= before + 2, page)


def unasked(page: Page, served: Served) -> None:
    """The page does not ask, after what was under way."""
    page.wait_for_timeout(700)
    before = served.view.reads
    page.wait_for_timeout(WHILE_MS)
    assert served.view.reads == before
