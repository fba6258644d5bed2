"""What is not loaded, and two buttons that put it on the WebUI's own list of disabled extensions and off again."""

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

ELEM_ID = "flux_speedup_left_out"
HINT = (
    "Also disabled in the WebUI, their installers are skipped at the next start. What is added is remembered; "
    "undo it before you remove this extension."
)


def build(view: Seen, control: Control) -> gr.HTML:
    """Build the piece inside the Blocks at hand and return its result line."""
    import gradio as gr
    from gradio.context import Context

    with gr.Column(variant="panel", elem_classes=["fsu-panel"], min_width=280):
        shown = gr.HTML(body(view), elem_id=ELEM_ID)
        with gr.Row():
            disable = gr.Button("Also disable them in the WebUI", size="sm", elem_id=f"{ELEM_ID}_disable")
            undo = gr.Button("Undo: enable them again", size="sm", elem_id=f"{ELEM_ID}_undo")
        result = gr.HTML("", elem_id=f"{ELEM_ID}_result")
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
