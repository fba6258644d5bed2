"""One button for whoever removes the extension: nothing of it stays in the WebUI's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..control.control import Control
from .actions import attempt
from .changes import EVENT, Headers
from .gradios import ours, with_headers

if TYPE_CHECKING:
    import gradio as gr

ELEM_ID = "flux_speedup_traces"
SURE = (
    "Every change is undone now, what was chosen on this page leaves the WebUI's settings, and extensions that the "
    "button above disabled are enabled again. Are you sure?"
)


def build(control: Control) -> gr.HTML:
    """Build the piece inside the Blocks at hand and return its result line."""
    import gradio as gr

    def button(name: str, label: str, **more: Any) -> Any:
        return ours(gr.Button(label, size="sm", elem_id=f"{ELEM_ID}_{name}", **more))

    with gr.Column(variant="panel", elem_classes=["fsu-panel"], min_width=280):
        ask = button("ask", "Remove all traces")
        with gr.Column(visible=False) as sure:
            gr.HTML(f'<div class="fsu">{SURE}</div>')
            with gr.Row():
                yes = button("yes", "Yes, remove them", variant="stop")
                everything = button("statistics", "Yes, and delete the statistics", variant="stop")
                no = button("no", "No, leave it as it is")
        result = gr.HTML("", elem_id=f"{ELEM_ID}_result")

    def pressed(folder: bool) -> Any:
        def handler(headers: Headers) -> list[Any]:
            said = attempt(lambda: control.by(headers).remove_traces(folder=folder))
            return [said, gr.update(visible=False)]

        return with_headers(handler)

    ask.click(lambda: ["", gr.update(visible=True)], None, [result, sure], **EVENT)
    no.click(lambda: ["", gr.update(visible=False)], None, [result, sure], **EVENT)
    yes.click(pressed(False), None, [result, sure], **EVENT)
    everything.click(pressed(True), None, [result, sure], **EVENT)
    return result
