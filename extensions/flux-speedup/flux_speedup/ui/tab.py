"""The tab "Flux Speedup": its layout. What its parts show is in parts.py, what its buttons do in actions.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..control.control import Control
from . import changes, wiring
from .assets import STYLE
from .gradios import ours

if TYPE_CHECKING:
    import gradio as gr

    from ..facts.seen import Seen

ELEM_ID = "flux_speedup_tab"
WIDE: dict[str, Any] = {"scale": 3, "min_width": 280}
NARROW: dict[str, Any] = {"scale": 2, "min_width": 280}
HALF: dict[str, Any] = {"scale": 1, "min_width": 280}
PANEL: dict[str, Any] = {"variant": "panel", "elem_classes": ["fsu-panel"]}


@dataclass
class Page:
    """The tab's components by name, as they are made."""

    view: Seen
    control: Control
    parts: dict[str, Any] = field(default_factory=dict)
    buttons: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, Any] = field(default_factory=dict)
    changes: changes.Panel | None = None

    def part(self, name: str) -> None:
        """A part of parts.NAMES; its value comes when the page is loaded."""
        import gradio as gr

        self.parts[name] = gr.HTML("", elem_id=f"{ELEM_ID}_{name}")

    def line(self, name: str) -> None:
        """HTML that says what a button did."""
        import gradio as gr

        self.texts[name] = gr.HTML("", elem_id=f"{ELEM_ID}_{name}", elem_classes=["fsu-line"])

    def hidden_text(self, name: str) -> None:
        """Text that goes to or from the page and is not shown."""
        import gradio as gr

        self.texts[name] = ours(gr.Textbox("", visible=False, elem_id=f"{ELEM_ID}_{name}"))

    def button(self, name: str, label: str, **more: Any) -> None:
        import gradio as gr

        more = {"size": "sm", "min_width": 110, **more}
        self.buttons[name] = ours(gr.Button(label, elem_id=f"{ELEM_ID}_{name}", **more))

    def unseen(self, name: str) -> None:
        """A button that only live.js presses: in the page, but not to be seen or reached."""
        self.button(name, name, elem_classes=["fsu-hidden"])


def build(view: Seen, control: Control) -> gr.Blocks:
    """The tab as Blocks of its own, which the WebUI renders into its page.

    It is built without a figure: building it must cost a start next to nothing. Every page load asks for what
    is true then, and live.js asks again while somebody looks. Everything is read through `view`.
    """
    import gradio as gr

    page = Page(view, control)
    with gr.Blocks(analytics_enabled=False, title="Flux Speedup") as blocks:
        gr.HTML(STYLE, elem_classes=["fsu-hidden"])
        with gr.Column(elem_id=ELEM_ID, elem_classes=["fsu-page"]):
            _top(page)
            _figures(page)
            _memory(page)
            _rest(page)
        wiring.connect(page, blocks)
    return blocks


def _top(page: Page) -> None:
    import gradio as gr

    for name in ("live", "progress", "pressed"):
        page.unseen(name)
    page.hidden_text("what")
    page.part("head")
    with gr.Row(elem_classes=["fsu-bar-row"]):
        # Comes with the first answer: live.js asks for nothing before.
        page.texts["pulse"] = gr.HTML("", elem_id=f"{ELEM_ID}_pulse")
        page.button("refresh", "Refresh", elem_classes=["fsu-refresh"])
    with gr.Row(equal_height=False):
        with gr.Column(**WIDE):
            page.part("status")
        with gr.Column(**NARROW):
            page.changes = changes.panel(
                page.view, page.control, elem_id=f"{ELEM_ID}_changes", with_list=False
            )


def _figures(page: Page) -> None:
    import gradio as gr

    page.part("requests")
    with gr.Row(equal_height=False):
        with gr.Column(**WIDE):
            page.part("rates")
        with gr.Column(**NARROW), gr.Column(**PANEL):
            page.part("machine")
            page.line("measuring")
            page.line("measure_said")
            with gr.Row():
                page.button("measure", "Measure this machine")
                page.button("cancel", "Cancel", variant="stop", visible=False)
    page.part("packed")
    page.line("packed_said")
    page.part("loads")


def _memory(page: Page) -> None:
    import gradio as gr

    with gr.Row(equal_height=False):
        with gr.Column(**HALF), gr.Column(**PANEL):
            page.part("memory")
        with gr.Column(**HALF), gr.Column(**PANEL):
            page.part("models")
            page.line("models_said")
            with gr.Row():
                page.button("free", "Free VRAM")


def _rest(page: Page) -> None:
    import gradio as gr

    with gr.Row(equal_height=False):
        with gr.Column(**HALF):
            page.part("start")
        with gr.Column(**HALF):
            page.part("local")
    page.part("log")
    with gr.Column(**PANEL):
        gr.HTML('<div class="fsu fsu-title">Statistics</div>')
        with gr.Row():
            page.button("json", "Export JSON")
            page.button("csv", "Export CSV")
            page.button("copy", "Copy a bug report")
            page.button("forget", "Forget statistics")
        with gr.Column(visible=False) as page.groups["sure"]:
            gr.HTML('<div class="fsu">Every stored load, request and start is deleted. Are you sure?</div>')
            with gr.Row():
                page.button("forget_yes", "Yes, forget them", variant="stop")
                page.button("forget_no", "No, keep them")
        page.line("statistics_said")
        page.texts["report"] = ours(
            gr.Textbox(
                "",
                label="Bug report",
                lines=8,
                max_lines=20,
                interactive=True,
                visible=False,
                elem_id=f"{ELEM_ID}_report",
                elem_classes=["fsu-report"],
            )
        )
        for name in ("json_text", "csv_text"):
            page.hidden_text(name)
