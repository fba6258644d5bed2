"""Where gradio 4.40.0 and 3.41.2 differ."""

from __future__ import annotations

import inspect
from collections.abc import Callable
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


def with_headers(handler: Callable[..., Any]) -> Callable[..., Any]:
    """An event's function whose first argument is what the headers of the request say, None where there is none."""
    import gradio as gr

    def called(request: Any, *inputs: Any) -> Any:
        return handler(getattr(request, "headers", None), *inputs)

    called.__name__ = handler.__name__
    # gradio hands the request to the parameter that is annotated with its class.
    called.__annotations__ = {"request": gr.Request}
    return called
