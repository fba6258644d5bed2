"""Where somebody looks for a script that was left out, a line says so: at the "Script" list, on the Extensions tab.

Plain HTML beside the WebUI's own components, by its own callbacks: no list, value or event of its changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..hosts.common.webui import WebUI
from ..pruning import words
from ..pruning.decision import Decision
from .words import safe

# Elements of all WebUIs of the family.
SCRIPT_LIST, EXTENSIONS = "script_list", "extensions_installed_top"
WHERE = "Settings, Flux Speedup brings them back."


def register(host: WebUI) -> None:
    """Until the next "Reload UI", as all callbacks."""
    hints = Hints(lambda: host.pruner().missing)
    for event in ("before_component", "after_component"):
        if host.knows(event):
            host.on(event, getattr(hints, event))


class Hints:
    """Callbacks of the WebUI, called for every component of the page while it is built."""

    def __init__(self, missing: Callable[[], Decision | None]) -> None:
        """`missing`: what the scripts of this page were loaded without."""
        self._missing = missing

    def before_component(self, _component: Any, **given: Any) -> None:
        if given.get("elem_id") == EXTENSIONS:
            self._say("extensions", words.count)

    def after_component(self, _component: Any, **given: Any) -> None:
        if given.get("elem_id") == SCRIPT_LIST:
            self._say("scripts", words.selectable)

    def _say(self, place: str, told: Callable[[Decision], str]) -> None:
        decision = self._missing()
        what = told(decision) if decision is not None else ""
        if what:
            import gradio as gr

            gr.HTML(line(what), elem_id=f"flux_speedup_hint_{place}")


def line(what: str) -> str:
    """One line, as small as the WebUI's own hints."""
    return (
        f'<div style="font-size: 0.85em; opacity: 0.75; padding: 2px 4px;">{safe(what)} '
        f"<span>{WHERE}</span></div>"
    )
