"""The tab "Flux Speedup": figures, status, what is changed, the table of loads, the start."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

from ..stats.events import STARTUP
from ..view import View
from . import cards, changes, loads, start
from .style import STYLE

if TYPE_CHECKING:
    import gradio as gr

ELEM_ID = "flux_speedup_tab"
STAGES = 500


def build(view: View) -> gr.Blocks:
    """The tab as Blocks of its own, which the WebUI renders into its page.

    Values are functions: each page load shows what is true then. Everything is read through `view`.
    """
    import gradio as gr

    with gr.Blocks(analytics_enabled=False, title="Flux Speedup") as page:
        top = gr.HTML(lambda: head_html(view), elem_id=f"{ELEM_ID}_head")
        refresh = gr.Button("Refresh", size="sm", elem_id=f"{ELEM_ID}_refresh", elem_classes=["fsu-refresh"])
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=280):
                status = gr.HTML(lambda: cards.status_card(view.status()), elem_id=f"{ELEM_ID}_status")
            with gr.Column(scale=2, min_width=280):
                panel = changes.panel(view, elem_id=f"{ELEM_ID}_changes", with_list=False)
        gr.HTML('<div class="fsu fsu-title">Loads, the newest first</div>')
        table = gr.Dataframe(
            lambda: load_rows(view),
            headers=list(loads.HEADERS),
            datatype=list(loads.TYPES),
            col_count=(len(loads.HEADERS), "fixed"),
            interactive=False,
            elem_id=f"{ELEM_ID}_loads",
            elem_classes=["fsu-loads"],
        )
        stages = gr.HTML(lambda: start_html(view), elem_id=f"{ELEM_ID}_start")
        refresh.do_not_save_to_config = True

        cards_outputs = [top, status, table, stages]

        def again() -> list[Any]:
            return values(view)

        def everything() -> list[Any]:
            return [*values(view), *changes.refreshed(view, with_list=False)]

        refresh.click(everything, None, [*cards_outputs, *panel.outputs], **changes.EVENT)
        for pressed in panel.pressed:
            pressed.then(again, None, cards_outputs, **changes.EVENT)
        panel_now = functools.partial(changes.refreshed, view, with_list=False)
        page.load(panel_now, None, list(panel.outputs), **changes.EVENT)
    return page


def values(view: View) -> list[Any]:
    """New values for figures, status, loads and start, in this order."""
    return [head_html(view), cards.status_card(view.status()), load_rows(view), start_html(view)]


def head_html(view: View) -> str:
    """Style and figures."""
    stages = start.latest(view.events(kind=STARTUP, limit=STAGES))
    return STYLE + cards.head(view.status(), view.totals(), stages)


def load_rows(view: View) -> list[list[loads.Cell]]:
    """The rows of the table of loads."""
    return loads.rows(loads.newest(view), time.time())


def start_html(view: View) -> str:
    """The stages of the newest start."""
    return cards.start_card(start.latest(view.events(kind=STARTUP, limit=STAGES)))
