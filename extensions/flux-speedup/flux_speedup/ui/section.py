"""Two pieces of the Settings section, below options and changes in force: what is not loaded, with buttons that put
it on the WebUI's own list of disabled extensions and off again; and what removes every trace of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..control.control import Control
from .actions import attempt
from .changes import EVENT, Headers
from .gradios import ours, with_headers
from .words import safe

if TYPE_CHECKING:
    import gradio as gr

    from ..facts.seen import Seen

LEFT_OUT, TRACES = "flux_speedup_left_out", "flux_speedup_traces"
HINT = (
    "Also disabled in the WebUI, their installers are skipped at the next start. What is added is remembered; "
    "undo it before you remove this extension."
)
SURE = (
    "Every change is undone now, what was chosen on this page leaves the WebUI's settings, and extensions that the "
    "button above disabled are enabled again. Are you sure?"
)


def left_out(view: Seen, control: Control) -> gr.HTML:
    """Build the piece inside the Blocks at hand and return its result line."""
    import gradio as gr
    from gradio.context import Context

    with gr.Column(variant="panel", elem_classes=["fsu-panel"], min_width=280):
        shown = gr.HTML(body(view), elem_id=LEFT_OUT)
        with gr.Row():
            disable = gr.Button("Also disable them in the WebUI", size="sm", elem_id=f"{LEFT_OUT}_disable")
            undo = gr.Button("Undo: enable them again", size="sm", elem_id=f"{LEFT_OUT}_undo")
        result = gr.HTML("", elem_id=f"{LEFT_OUT}_result")
    for button in (disable, undo):
        ours(button)

    def pressed_disable(headers: Headers) -> list[Any]:
        return [attempt(control.by(headers).disable_left_out), body(view)]

    def pressed_undo(headers: Headers) -> list[Any]:
        return [attempt(control.by(headers).undo_disabled), body(view)]

    disable.click(with_headers(pressed_disable), None, [result, shown], **EVENT)
    undo.click(with_headers(pressed_undo), None, [result, shown], **EVENT)
    Context.root_block.load(lambda: body(view), None, [shown], **EVENT)
    return result


def body(view: Seen) -> str:
    """HTML of what is left out, of this machine's starts, and of what the WebUI's list has."""
    state = view.left_out()
    lines = [state.summary, state.starts]
    if state.disabled:
        lines.append(f"Disabled in the WebUI by the button below: {', '.join(state.disabled)}")
    if state.why_not:
        lines.append(f"The WebUI's own list cannot be changed here: {state.why_not}")
    elif state.can_disable:
        lines += [HINT, f"It would add: {', '.join(state.can_disable)}"]
    rows = "".join(f'<div class="fsu-soft">{safe(line)}</div>' for line in lines if line)
    return f'<div class="fsu"><div class="fsu-title">Scripts that are not loaded</div>{rows}</div>'


def traces(control: Control) -> gr.HTML:
    """Build the piece inside the Blocks at hand and return its result line."""
    import gradio as gr

    def button(name: str, label: str, **more: Any) -> Any:
        return ours(gr.Button(label, size="sm", elem_id=f"{TRACES}_{name}", **more))

    with gr.Column(variant="panel", elem_classes=["fsu-panel"], min_width=280):
        ask = button("ask", "Remove all traces")
        with gr.Column(visible=False) as sure:
            gr.HTML(f'<div class="fsu">{SURE}</div>')
            with gr.Row():
                yes = button("yes", "Yes, remove them", variant="stop")
                everything = button("statistics", "Yes, and delete the statistics", variant="stop")
                no = button("no", "No, leave it as it is")
        result = gr.HTML("", elem_id=f"{TRACES}_result")

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
