"""What is not loaded, and two buttons that put it on the WebUI's own list of disabled extensions and off again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..facts.view import View
from . import cards
from .changes import EVENT
from .words import safe

if TYPE_CHECKING:
    import gradio as gr

log = logging.getLogger("flux_speedup")

ELEM_ID = "flux_speedup_left_out"
HINT = (
    "Also disabled in the WebUI, their installers are skipped at the next start. What is added is remembered; "
    "undo it before you remove this extension."
)


def build(view: View) -> gr.HTML:
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
        # The WebUI would write the visibility of every button it finds into the user's ui-config.json.
        button.do_not_save_to_config = True

    def pressed(act: Callable[[], str]) -> list[Any]:
        return [acted(act), body(view)]

    disable.click(lambda: pressed(view.disable_left_out), None, [result, shown], **EVENT)
    undo.click(lambda: pressed(view.undo_disabled), None, [result, shown], **EVENT)
    Context.root_block.load(lambda: body(view), None, [shown], **EVENT)
    return result


def body(view: View) -> str:
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


def acted(act: Callable[[], str]) -> str:
    """HTML of what a button did."""
    try:
        return cards.result(safe(act()))
    except Exception as error:
        log.exception("the WebUI's list of disabled extensions could not be changed from the page")
        return cards.result(f"Failed: {safe(error)}. The log has the details.", good=False)
