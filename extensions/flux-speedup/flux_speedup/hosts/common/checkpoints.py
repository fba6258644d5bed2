"""The host throws the built model away when another checkpoint is asked for; ours keeps it for the next time.

Forge and Forge Neo do so under the same names: `forge_loader`, `forge_model_reload`, `model_data`.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ...collector import paused
from ...patching.change import Call, Change, Declined, Function, Undo, apply_all
from ...stats.events import KEPT, Event
from ...weights.checkpoints import Key, Limits
from .built import Builds, Built, Habits, key_of
from .left_over import LeftOver
from .model_requests import ModelRequests
from .shelf import Shelf

MANAGER = "backend.memory_management"
SD_MODELS = "modules.sd_models"
PROCESSING = "modules.processing"
log = logging.getLogger("flux_speedup")


class Keeper:
    """`forge_model_reload` with a memory. `streaming`: whether weights are streamed from their files now."""

    def __init__(
        self,
        builds: Builds,
        habits: Habits,
        limits: Limits,
        record: Callable[[Event], None],
        streaming: Callable[[], bool],
        comes: Callable[[Any], None] = lambda engine: None,
    ) -> None:
        """`comes`: told of a kept engine that is to be used again, once the device has room for it."""
        self._comes = comes
        self._builds = builds
        self._habits = habits
        self._record = record
        self._streaming = streaming
        self.kept = Shelf(limits)
        self._current: Built | None = None
        self._fresh: Built | None = None
        self._on = False
        self._requests = ModelRequests(lambda: self._current, self.kept.drop_failed)
        self._left_over = LeftOver()
        self._thread = threading.local()

    def changes(self) -> list[Change]:
        # It imports the other one, and names from there.
        return [Call(self._begin, module=PROCESSING)]

    @property
    def current(self) -> Built | None:
        """The model in use, if it can be kept."""
        return self._current

    def _begin(self) -> Undo:
        _require()
        undo = apply_all(
            Function(module, name, make)
            for module, name, make in (
                (SD_MODELS, "forge_loader", self._wrap_loader),
                (SD_MODELS, "forge_model_reload", self._wrap_reload),
                (PROCESSING, "forge_model_reload", self._wrap_reload),
                (PROCESSING, "process_images_inner", self._requests.wrap),
                (PROCESSING, "process_images_inner", self._left_over.wrap_request),
                (MANAGER, "soft_empty_cache", self._left_over.wrap),
            )
        )

        def end() -> None:
            undo()
            self._on = False
            self._current = self._fresh = None
            registry.make_room, registry.writers.wait = lambda: False, lambda identity: None
            self.kept.clear()

        registry = self._builds.placement.registry
        registry.make_room, registry.writers.wait = self.kept.make_room, self.kept.drop_built_from
        self._on = True
        return end

    # What is wrapped.

    def _wrap_loader(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def forge_loader(*args: Any, **kwargs: Any) -> Any:
            self._fresh = None
            self._builds.was_built_from_files()  # about an earlier build
            engine = original(*args, **kwargs)
            if self._builds.was_built_from_files() and self._on:
                try:
                    self._fresh = Built(engine, self._builds, self._habits)
                except Exception as error:
                    log.info("this model will be built anew each time (%s)", error)
            return engine

        return forge_loader

    def _wrap_reload(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def forge_model_reload(*args: Any, **kwargs: Any) -> Any:
            if getattr(self._thread, "inside", False):
                return original(*args, **kwargs)
            self._thread.inside = True
            try:
                with paused():  # a build makes a million objects, and none of them is garbage
                    return self._reload(partial(original, *args, **kwargs))
            finally:
                self._thread.inside = False

        return forge_model_reload

    # What they do.

    def _reload(self, original: Callable[[], Any]) -> Any:
        from modules import sd_models

        data = sd_models.model_data
        wanted = str(data.forge_loading_parameters)
        if data.forge_hash == wanted and data.sd_model is not None:
            return original()
        key: Key | None = None
        try:
            key = key_of(data.forge_loading_parameters, self._habits)
            with torch.inference_mode():
                kept = False if self._is_to_be_built_anew(data, key) else self._switch(data, key, wanted)
        except Exception as error:
            log.warning("%s: %s; falling back to the WebUI's own loading", type(error).__name__, error)
            kept = False
        self.kept.collect()
        return (data.sd_model, True) if kept else self._build(original, data, key)

    def _is_to_be_built_anew(self, data: Any, key: Key | None) -> bool:
        """Whether somebody has emptied the host's note of what it had loaded; then nothing of it is used again."""
        if data.forge_hash or self._current is None or self._current.engine is not data.sd_model:
            return False
        log.info("%s is built anew, as somebody asked for", self._current.name)
        self._current = None
        if key is not None:
            self.kept.forget(key)
        return True

    def _switch(self, data: Any, key: Key | None, wanted: str) -> bool:
        """Put the model aside that is there; whether a kept one has taken its place."""
        started = time.perf_counter()
        built = None if key is None else self.kept.take(key)
        if built is not None and built.was_written:
            log.info("%s is built anew: somebody wrote into its weights while it was kept", built.name)
            built = None
        outgoing = self._put_aside(data, built)
        self.kept.forget_changed()
        if built is None and key is not None and outgoing is not None and outgoing.key == key:
            built, outgoing = outgoing, None
        if outgoing is not None:
            self.kept.keep(outgoing)
        if built is None:
            return False
        if data.sd_model is not None:
            self._throw_away(data)
        built.bring_back(data.forge_loading_parameters)
        data.forge_hash = wanted
        self._current = built
        self._requests.uses(built)
        seconds = time.perf_counter() - started
        self._record(Event("checkpoint", built.name, 0, seconds, KEPT, "RAM"))
        return True

    def _build(self, original: Callable[[], Any], data: Any, key: Key | None) -> Any:
        self._current = self._fresh = None
        if data.sd_model is None:
            data.forge_hash = ""  # the host takes a model that is not there for the one it had last
        try:
            answer = original()
        except BaseException:
            if data.sd_model is None:
                data.forge_hash = ""
            raise
        fresh, self._fresh = self._fresh, None
        if fresh is not None and fresh.engine is data.sd_model and key is not None:
            again = key_of(data.forge_loading_parameters, self._habits)
            if again == key:
                fresh.built_from(key)
                self._current = fresh
                self._requests.uses(fresh)
        return answer

    def _put_aside(self, data: Any, coming: Built | None) -> Built | None:
        """The model that is there, off the device and clean, if it may be kept; no longer the host's then.

        `coming`: the one that is to be used next.
        """

        def once_off() -> None:
            if coming is not None:
                self._comes(coming.engine)

        built, self._current = self._current, None
        if built is None or built.engine is not data.sd_model or built.key is None or not self._on:
            return None
        if built.failed or not self._streaming() or not built.key.is_current():
            why = "its last request failed" if built.failed else "its files or settings have changed"
            log.info("%s is not kept: %s", built.name, why)
            return None
        from backend import memory_management

        try:
            with self._left_over.switching():
                built.put_aside(memory_management, once_off)
        except Exception as error:
            log.warning("%s is not kept (%s); the WebUI throws it away", built.name, error)
            return None
        data.sd_model = None
        return built

    @staticmethod
    def _throw_away(data: Any) -> None:
        from backend import memory_management

        data.sd_model = None
        memory_management.unload_all_models()
        gc.collect()
        memory_management.soft_empty_cache()


def _require() -> None:
    from modules import processing, sd_models

    data = getattr(sd_models, "model_data", None)
    if not hasattr(data, "forge_loading_parameters") or not hasattr(processing, "process_images_inner"):
        raise Declined("this WebUI chooses and loads checkpoints in another way")
