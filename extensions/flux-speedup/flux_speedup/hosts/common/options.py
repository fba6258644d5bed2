"""The WebUI's options: our section on its Settings page, and options of its own that a change of ours sets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from ...configuration.sources import OPTION_PREFIX
from ...patching.change import Call, Change, Declined, Undo, apply, in_reverse
from . import settings_file

if TYPE_CHECKING:
    from ...ui.settings import Option

SECTION = ("flux_speedup", "Flux Speedup")


def opts() -> Any:
    """The WebUI's options, None before they are loaded."""
    return getattr(sys.modules.get("modules.shared"), "opts", None)


def flags() -> Any:
    """Its command line, None before it is parsed."""
    return getattr(sys.modules.get("modules.shared"), "cmd_opts", None)


def has_our_section() -> bool:
    """Whether it is on the Settings page, or there are no options at all."""
    return f"{OPTION_PREFIX}enabled" in getattr(opts(), "data_labels", (f"{OPTION_PREFIX}enabled",))


def add_our_section(
    options: Iterable[Option],
    html: Callable[..., Any],
    changed: Callable[[], None],
    configured: Mapping[str, str],
) -> None:
    """Put it on the Settings page; `html` builds its last, unsaved component.

    changed: called when the master switch was. configured: by an option's key what "as configured" comes to.
    """
    import gradio as gr
    from modules import shared

    for option in options:
        info = shared.OptionInfo(
            option.default, option.label, gr.Radio, {"choices": list(option.choices)}, section=SECTION
        )
        info.info(option.info)
        if option.restart:
            info.needs_restart()
        else:
            info.needs_reload_ui()
        behind = escape(configured.get(option.key, ""))
        info.comment_after = f"{getattr(info, 'comment_after', '')} <span class='info'>[{behind}]</span>"
        shared.opts.add_option(option.key, info)
    # A handler on the master switch only: it must work at once.
    shared.opts.onchange("flux_speedup_enabled", changed, call=False)
    panel = shared.OptionInfo("", "", html, section=SECTION)
    panel.do_not_save = True
    shared.opts.add_option("flux_speedup_changes", panel)


class Options:
    """Options of the WebUI's own, as a process of ours sets them."""

    def __init__(self) -> None:
        # What the user changed while ours were in force: theirs until the next start.
        self._users_own: set[str] = set()

    def change(self, key: str, value: object) -> Change:
        """Set an option; put back only while it still has our value, and never over the user's own."""
        return Call(lambda: self._set(key, value))

    def _set(self, key: str, value: object) -> Undo:
        found = opts()
        if found is None or key not in found.data_labels:
            raise Declined(f"this WebUI has no option {key}")
        if key in self._users_own:
            raise Declined(f"{key}: the user's own value until the next start")
        before = found.data.get(key, settings_file.MISSING)
        try:
            found.set(key, value, run_callbacks=False)
        except AssertionError as error:
            raise Declined(
                f"option {key} cannot be set ({error}); the memory manager's value is set alone"
            ) from error
        if getattr(found, key) != value:
            raise Declined(f"option {key} is restricted; the memory manager's value is set alone")

        def undo() -> None:
            if found.data.get(key) != value:
                self._users_own.add(key)
            elif before is settings_file.MISSING:
                found.data.pop(key, None)
            else:
                found.data[key] = before

        try:
            save_again = apply(settings_file.keep_out(found, key, value, before))
        except Exception as error:
            undo()
            raise Declined(
                f"option {key}: its value would be saved for good ({error}); the memory manager's is set alone"
            ) from error
        return in_reverse([save_again, undo])
