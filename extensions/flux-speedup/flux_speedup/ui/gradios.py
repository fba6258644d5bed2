"""Where gradio 4.40.0 and 3.41.2 differ."""

from __future__ import annotations

import inspect
from typing import Any


def with_script(script: str) -> dict[str, Any]:
    """The argument of an event that names a function of the page, run before the event's own function."""
    import gradio as gr

    name = "js" if "js" in inspect.signature(gr.Blocks.load).parameters else "_js"
    return {name: script}


def ours(component: Any) -> Any:
    """`component`, kept out of the user's ui-config.json, which takes values and visibility of all it finds."""
    component.do_not_save_to_config = True
    return component
