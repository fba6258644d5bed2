"""Needless unloads of Forge and Forge Neo: decided where the host's flag is used, not where it is set.

The host sets `need_global_unload` whenever settings are written, changed or not: at every page load, and
around every API request that overrides some. The next image then unloads all models and forgets the prompt's
encoding. Here the functions that set it leave it as it was, and before each request what is in force is
compared with what was at the last one. A flag set by somebody else counts as it always did.

What the host knows a kept encoding by is not all that it depends on (SD3's "Enable T5", SDXL's aesthetic scores):
where the host would have forgotten it, it is forgotten if any setting is another one than when it was made.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...patching.change import Change, Function

PROCESSING = "modules.processing"
# Those that are compared as what they come to, or change no image.
COMPARED = {
    "sd_model_checkpoint",
    "sd_checkpoint_hash",
    "forge_additional_modules",
    "forge_unet_storage_dtype",
}
COMPARED |= {"forge_inference_memory", "forge_async_loading", "forge_pin_shared_memory"}
ENTRY = "modules_forge.main_entry"
log = logging.getLogger("flux_speedup")


@dataclass(frozen=True)
class InForce:
    """What loaded models depend on. `loading`: `parameters` of them. `inference`: bytes kept for it."""

    loading: str
    inference: int
    pinned: bool


def reason(
    before: InForce | None, now: InForce, *, partly: Callable[[], bool], short: Callable[[], bool]
) -> str | None:
    """Why loaded models must go before a request, or None. `before`: at the last request, None: unknown.

    `partly`: a loaded model has weights that wait in RAM. `short`: less than `now.inference` is free.
    """
    if before is None:
        return "the first request"
    if now.loading != before.loading:
        return "the loading parameters changed"
    if now.inference != before.inference and (partly() or (now.inference > before.inference and short())):
        return "the memory kept for inference changed"
    if now.pinned != before.pinned and partly():
        return "pinning changed"
    return None


class Unloads:
    """What the wrapped functions of one process tell each other. One request at a time, as in the host."""

    def __init__(
        self, setters: Sequence[str], manager: Any, in_force: Callable[[str], InForce], *, by_model: bool
    ) -> None:
        """`setters`: the functions of the page that set the host's flag. `in_force`: what the models of these
        loading parameters depend on now. `by_model`: the host knows which model each kept encoding is by."""
        self._setters = setters
        self._by_model = by_model
        self._manager = manager
        self._in_force = in_force
        self._before: InForce | None = None
        self._thread = threading.local()
        # Loading parameters of the models that the kept encodings were made by.
        self._encoded_by: set[str] = set()
        # The settings that each of the two was made with.
        self._encoded_with: list[dict[str, Any] | None] = [None, None]
        self._flag_was_left = False

    def changes(self) -> list[Change]:
        base = "StableDiffusionProcessing"
        return [
            *(Function(ENTRY, name, self._wrap_setter) for name in self._setters),
            Function(PROCESSING, "manage_model_and_prompt_cache", self._wrap_manage),
            Function(PROCESSING, f"{base}.clear_prompt_cache", self._wrap_clear),
            Function(PROCESSING, f"{base}.get_conds_with_caching", self._wrap_encode),
        ]

    def _partly_loaded(self) -> bool:
        return any(
            parameter.device != loaded.device
            for loaded in self._manager.current_loaded_models
            for parameter in loaded.model.model.parameters()
        )

    def _short_of_memory(self) -> bool:
        manager = self._manager
        devices = {each.device for each in manager.current_loaded_models if each.device != manager.cpu}
        return any(manager.get_free_memory(device) < manager.minimum_inference_memory() for device in devices)

    def _wrap_setter(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def refresh(*args: Any, **kwargs: Any) -> Any:
            processing = _host(PROCESSING)
            before = processing.need_global_unload
            try:
                return original(*args, **kwargs)
            finally:
                self._flag_was_left = self._flag_was_left or processing.need_global_unload
                processing.need_global_unload = before

        return refresh

    def _wrap_manage(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def manage_model_and_prompt_cache(p: Any) -> Any:
            processing = _host(PROCESSING)
            before, now = self._before, self._in_force(_chosen())
            foreign = not self._by_model and bool(self._encoded_by - {now.loading})
            same_model = before is not None and before.loading == now.loading and not foreign
            asked, left = processing.need_global_unload, self._flag_was_left
            self._flag_was_left = False
            settings = _settings() if left else None
            stale = left and any(each not in (None, settings) for each in self._encoded_with)
            why = reason(before, now, partly=self._partly_loaded, short=self._short_of_memory)
            if why or foreign:
                processing.need_global_unload = True
            if why and before is not None:
                log.info("models are loaded anew: %s", why)
            self._thread.clearing = "keep" if same_model and not asked and not stale else "forget"
            try:
                if stale:
                    p.clear_prompt_cache()
                done = original(p)
            finally:
                self._thread.clearing = None
            self._before = now
            return done

        return manage_model_and_prompt_cache

    def _wrap_clear(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def clear_prompt_cache(p: Any) -> Any:
            clearing = getattr(self._thread, "clearing", None)
            if clearing == "keep":
                return None
            cleared = original(p)
            self._encoded_by.clear()
            self._encoded_with = [None, None]
            if clearing == "forget":
                # Else what this request encodes is lost, and the next one encodes it again. Not where another
                # extension clears: it may want an encoding of its own that no later request gets.
                base = _host(PROCESSING).StableDiffusionProcessing
                p.cached_c, p.cached_uc = base.cached_c, base.cached_uc
            return cleared

        return clear_prompt_cache

    def _wrap_encode(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def get_conds_with_caching(p: Any, *args: Any, **kwargs: Any) -> Any:
            before = _kept()
            made = original(p, *args, **kwargs)
            for number, (key, known) in enumerate(zip(_kept(), before, strict=True)):
                if key is not known:
                    self._encoded_by.add(_loaded())
                    self._encoded_with[number] = _settings()
            return made

        return get_conds_with_caching


def _host(module: str) -> Any:
    """A module of the host, in memory by now."""
    return sys.modules[module]


def _settings() -> dict[str, Any]:
    """All that are in force now, but for those of models and memory."""
    held = dict(_host("modules.shared").opts.data)
    return {key: value for key, value in held.items() if key not in COMPARED}


def _kept() -> tuple[object, object]:
    """What the two kept encodings were made for: new objects whenever they are made anew."""
    base = _host(PROCESSING).StableDiffusionProcessing
    return base.cached_c[0], base.cached_uc[0]


def _chosen() -> str:
    """The loading parameters of the model that the next image is made with."""
    return _with_online(_model_data().forge_loading_parameters)


def _loaded() -> str:
    """The loading parameters of the model that is there, in the same words."""
    return _with_online(_model_data().forge_hash)


def _with_online(parameters: object) -> str:
    # As the host compares them: checkpoint infos are made anew whenever files are listed.
    found = _host("backend.args").dynamic_args
    online = found.get("online_lora", False) if isinstance(found, dict) else found.online_lora
    return f"{parameters}, LoRA on the fly: {online}"


def _model_data() -> Any:
    return _host("modules.sd_models").model_data
