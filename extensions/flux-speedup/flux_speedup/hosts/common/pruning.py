"""Leaving scripts out when the WebUI lists them, so that they are never imported. Its own lists stay as they are.

The listing is asked anew at every "Reload UI", before our own script is there again: so what is armed stays armed
through it, and looks for our script in the list. Where it is missing, the extension was disabled or removed, and
everything is put back.
"""

from __future__ import annotations

import html
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...patching.change import Call, Change, Function

if TYPE_CHECKING:
    from ...pruning.decision import Decision
    from ...pruning.surroundings import Wishes

SCRIPTS, EXTENSIONS = "modules.scripts", "modules.extensions"
LISTED = {"scripts": (".py",), "javascript": (".js", ".mjs")}
OURS = "flux_speedup.py"
FOLDER = Path(__file__).resolve().parents[3]
"""Of this copy of the extension: there may be another one, which stands down."""

log = logging.getLogger("flux_speedup")


class Pruner:
    """One for the life of the process. Called on the thread that lists.

    decision: what listings leave out, None where they are the WebUI's own. missing: what the scripts were last
    loaded without; it stays true when the listing is put back, until they are loaded again.
    disabled_by_us: names that our button added to the WebUI's list.
    """

    def __init__(self, disabled_by_us: Callable[[], tuple[str, ...]]) -> None:
        self._disabled_by_us = disabled_by_us
        self._wishes: Callable[[], Wishes] | None = None
        self._small_card = False
        self._gone: Callable[[], object] = self._forget
        self.decision: Decision | None = None
        self.missing: Decision | None = None

    def changes(
        self, wishes: Callable[[], Wishes], small_card: bool, gone: Callable[[], object]
    ) -> list[Change]:
        """The listing of scripts and files; what the Extensions tab says of them."""
        self._wishes, self._small_card, self._gone = wishes, small_card, gone
        return [
            Function(SCRIPTS, "list_scripts", self._wrap_list_scripts),
            Function(SCRIPTS, "list_files_with_name", self._wrap_list_files),
            Function(EXTENSIONS, "list_extensions", self._wrap_list_extensions),
            Call(lambda: self._forget),
        ]

    def forget(self) -> None:
        """Scripts are about to be loaded anew."""
        self._forget()
        self.missing = None

    def _wrap_list_scripts(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def list_scripts(scriptdirname: str, extension: str, *args: Any, **kwargs: Any) -> Any:
            found = original(scriptdirname, extension, *args, **kwargs)
            if extension not in LISTED.get(scriptdirname, ()):
                return found
            if extension == ".py":
                self.missing = None
            try:
                return self._leave_out(found, extension)
            except Exception:
                log.exception("scripts could not be left out; the WebUI loads all of them")
                self.decision = self.missing = None
                return found

        return list_scripts

    def _leave_out(self, found: list[Any], extension: str) -> list[Any]:
        if extension == ".py":
            if not any(file.filename == OURS and _is_around(file.basedir) for file in found):
                # Disabled or removed, and "Reload UI" was pressed.
                self.decision = None
                self._gone()
                return found
            self.decision = self.missing = self._decide()
            self._show_status()
        if self.decision is None:
            return found
        return [file for file in found if not _is_left_out(self.decision, file, extension)]

    def _decide(self) -> Decision | None:
        # Only now: preload must not pay for it.
        from ...pruning.decision import decide
        from .surroundings import gather

        if self._wishes is None:
            return None
        return decide(gather(self._small_card, frozenset(self._disabled_by_us())), self._wishes())

    def _wrap_list_files(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def list_files_with_name(filename: str, *args: Any, **kwargs: Any) -> Any:
            found = original(filename, *args, **kwargs)
            if self.decision is None:
                return found
            return [path for path in found if os.path.dirname(path) not in self.decision.folders]  # noqa: PTH120

        return list_files_with_name

    def _wrap_list_extensions(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def list_extensions(*args: Any, **kwargs: Any) -> Any:
            answer = original(*args, **kwargs)
            self._show_status()
            return answer

        return list_extensions

    def _show_status(self) -> None:
        """The Extensions tab shows `status` as HTML; nothing saves it."""
        from ...pruning import words

        ours = {html.escape(words.status(whole)) for whole in (True, False)}
        decision = self.decision
        for extension in getattr(sys.modules.get(EXTENSIONS), "extensions", ()):
            if decision is None or extension.path not in decision.folders | decision.partly:
                if getattr(extension, "status", "") in ours:
                    extension.status = ""
            else:
                extension.status = html.escape(words.status(extension.path in decision.folders))

    def _forget(self) -> None:
        self.decision = None
        self._show_status()


def _is_around(basedir: str) -> bool:
    """Whether an extension's folder is ours, or that of the repository that we lie in."""
    return FOLDER.is_relative_to(os.path.realpath(basedir))


def _is_left_out(decision: Decision, file: Any, extension: str) -> bool:
    if file.basedir in decision.folders:
        return True
    # The page's own scripts are the WebUI's: only an extension's can be left out by name.
    if extension != ".py" and file.basedir not in decision.partly:
        return False
    stem = os.path.splitext(file.filename)[0]  # noqa: PTH122
    return stem in decision.left_out


def remove_loaded(decision: Decision) -> list[str]:
    """Take scripts that were loaded all the same out of the runners; only where no page is wired to them.

    Answers with their stems.
    """
    from modules import scripts

    removed: set[str] = set()
    for runner in (scripts.scripts_txt2img, scripts.scripts_img2img):
        for held in (runner.scripts, runner.alwayson_scripts, runner.selectable_scripts):
            for script in [each for each in held if _stem(each) in decision.left_out]:
                removed.add(_stem(script))
                held.remove(script)
        getattr(runner, "callback_map", {}).clear()
    return sorted(removed)


def _stem(script: Any) -> str:
    return os.path.splitext(os.path.basename(str(getattr(script, "filename", ""))))[0]  # noqa: PTH119, PTH122
