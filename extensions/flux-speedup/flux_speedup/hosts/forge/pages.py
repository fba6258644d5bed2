"""Forge's page loads and preset clicks, which write memory settings of their own over whatever is in force.

Three writers race whenever a page loads: the page posts the values its components had when the UI was built;
the preset answers with fixed ones; the components' own load events answer from the options. Whatever arrives
last stays. Here the preset answers from the options, and of what a page posts only that counts which differs
from what the same page last held: that is what its user changed.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...patching.change import Change, Function

ENTRY = "modules_forge.main_entry"
MAX_PAGES = 512
# Items of the patch table whose values a preset must not overwrite, as on_preset_change orders its answers.
PRESET_ANSWERS = {3: "streams", 4: "pinning", 5: "inference_memory"}

log = logging.getLogger("flux_speedup")


@dataclass(frozen=True)
class Settings:
    """The three memory settings of the page, in the order its components are posted."""

    model_memory: float
    async_loading: str
    pin_shared_memory: str

    def changed_by(self, before: Settings, after: Settings) -> Settings:
        """These settings with those replaced in which `after` differs from `before`."""
        return Settings(
            after.model_memory if after.model_memory != before.model_memory else self.model_memory,
            after.async_loading if after.async_loading != before.async_loading else self.async_loading,
            after.pin_shared_memory
            if after.pin_shared_memory != before.pin_shared_memory
            else self.pin_shared_memory,
        )


class Pages:
    """What each open page last held; a page not seen yet holds what the UI was built with. Thread safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._built: Settings | None = None
        self._held: OrderedDict[str, Settings] = OrderedDict()

    def built(self, settings: Settings) -> None:
        """The UI was built anew with these values."""
        with self._lock:
            self._built = settings
            self._held.clear()

    def post(self, page: str, posted: Settings, current: Settings) -> Settings:
        """The settings that a post of `page` means, given those in force."""
        with self._lock:
            before = self._held.pop(page, self._built)
            self._held[page] = posted
            while len(self._held) > MAX_PAGES:
                self._held.popitem(last=False)
        return posted if before is None else current.changed_by(before, posted)


def changes(held: Callable[[], frozenset[str]]) -> list[Change]:
    """The three functions of the page; `held` names the items in force whose values a preset must keep."""
    pages = Pages()

    def make_ui(original: Callable[..., Any]) -> Callable[..., Any]:
        def make_checkpoint_manager_ui(*args: Any, **kwargs: Any) -> Any:
            made = original(*args, **kwargs)
            pages.built(_built_settings())
            return made

        return make_checkpoint_manager_ui

    return [
        Function(ENTRY, "make_checkpoint_manager_ui", make_ui),
        Function(ENTRY, "ui_refresh_memory_management_settings", _refresh_of(pages), own_signature=True),
        Function(ENTRY, "on_preset_change", _preset_of(held)),
    ]


def _refresh_of(pages: Pages) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        import gradio as gr

        def ui_refresh(
            model_memory: Any, async_loading: Any, pin_shared_memory: Any, request: Any = None
        ) -> Any:
            session = getattr(request, "session_hash", None)
            posted = Settings(model_memory, async_loading, pin_shared_memory)
            if session is None:
                return original(model_memory, async_loading, pin_shared_memory)
            current = _current_settings()
            meant = pages.post(session, posted, current)
            if meant == current:
                return None
            return original(meant.model_memory, meant.async_loading, meant.pin_shared_memory)

        # gradio hands the request to the parameter that is annotated with its class.
        ui_refresh.__annotations__ = {"request": gr.Request}
        return ui_refresh

    return make


def _preset_of(held: Callable[[], frozenset[str]]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def on_preset_change(preset: Any = None) -> Any:
            answers = original(preset)
            in_force = held()
            current = _current_settings()
            values = (current.async_loading, current.pin_shared_memory, current.model_memory)
            if not _is_as_known(answers):
                log.warning(
                    "on_preset_change of this Forge answers in another order; a preset may change memory settings"
                )
                return answers
            for (position, item), value in zip(PRESET_ANSWERS.items(), values, strict=True):
                if item in in_force:
                    answers[position] = {**answers[position], "value": value}
            return answers

        return on_preset_change

    return make


def _is_as_known(answers: Any) -> bool:
    if (
        not isinstance(answers, list)
        or len(answers) < 6
        or not all(isinstance(a, dict) for a in answers[3:6])
    ):
        return False
    method, location, memory = (a.get("value") for a in answers[3:6])
    return method in ("Queue", "Async") and location in ("CPU", "Shared") and isinstance(memory, (int, float))


def _current_settings() -> Settings:
    entry, opts = sys.modules[ENTRY], sys.modules["modules.shared"].opts
    return Settings(
        entry.total_vram - opts.forge_inference_memory, opts.forge_async_loading, opts.forge_pin_shared_memory
    )


def _built_settings() -> Settings:
    entry = sys.modules[ENTRY]
    return Settings(
        entry.ui_forge_inference_memory.value,
        entry.ui_forge_async_loading.value,
        entry.ui_forge_pin_shared_memory.value,
    )
