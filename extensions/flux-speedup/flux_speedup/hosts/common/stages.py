"""Which function of a WebUI is which stage of a request: wrapped so that what runs in it counts as that part.

The wrappers hand everything through as it is. A host that lacks one of these functions lacks that stage, and
its time counts as whatever is around it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...patching.change import Call, Change, Function, Undo, apply_all, whatever_is_there
from ...stats.report import seconds
from ...stats.tracking import Open, Tracking
from . import detectors

PROCESSING = "modules.processing"
INFOTEXT = "Load"
# (module, function, part of a request).
PARTS = (
    ("modules.sd_models", "forge_model_reload", "load"),
    (PROCESSING, "forge_model_reload", "load"),
    ("modules.sd_models", "reload_model_weights", "load"),
    ("modules.sd_models", "load_model", "load"),
    ("backend.memory_management", "load_models_gpu", "move"),
    ("backend.memory_management", "unload_all_models", "unload"),
    ("ldm_patched.modules.model_management", "load_models_gpu", "move"),
    ("ldm_patched.modules.model_management", "unload_all_models", "unload"),
    (PROCESSING, "StableDiffusionProcessing.get_conds_with_caching", "text encoding"),
    ("modules.sd_samplers_common", "Sampler.launch_sampling", "sampling"),
    (PROCESSING, "images_tensor_to_samples", "vae"),
)


@dataclass(frozen=True)
class _Pass:
    """`new`: it was not open before. `request`: the one it began, if it did."""

    new: bool
    request: Open | None

    def done(self, made: Any) -> Any:
        """Count the images of the request, and hand them on."""
        if self.request is not None:
            self.request.images = len(getattr(made, "images", None) or ())
        return made

    def failed(self) -> None:
        if self.request is not None:
            self.request.failed = True


class Stages:
    """The wrapped functions of one process. `in_infotext`: images name what loading took."""

    def __init__(self, tracking: Tracking, in_infotext: bool) -> None:
        self._tracking = tracking
        self._in_infotext = in_infotext
        self._thread = threading.local()

    def changes(self) -> list[Change]:
        """What is there when scripts are loaded."""
        return [Call(self._begin, module=PROCESSING)]

    def late_changes(self) -> list[Change]:
        """What is there once the WebUI has started."""
        optional: list[Change] = [
            Function("modules.scripts", "ScriptRunner.run", self._wrap_script),
            Function("modules.postprocessing", "run_extras", partial(self._wrap_extras, "API")),
            Function("modules.postprocessing", "run_postprocessing", partial(self._wrap_extras, "page")),
        ]
        wrap = partial(self._wrap_part, "adetailer")
        return [Call(partial(whatever_is_there, optional)), *detectors.changes(wrap)]

    def _begin(self) -> Undo:
        optional: list[Change] = [
            Function(module, path, partial(self._wrap_part, part)) for module, path, part in PARTS
        ]
        optional += [
            Function(PROCESSING, "manage_model_and_prompt_cache", self._wrap_manage),
            Function(PROCESSING, "process_images_inner", self._wrap_inner),
            Function(PROCESSING, "StableDiffusionProcessingTxt2Img.sample_hr_pass", self._wrap_hires),
            Function(PROCESSING, "decode_latent_batch", self._wrap_decode),
        ]
        needed = Function(PROCESSING, "process_images", self._wrap_process)
        return apply_all([needed, Call(partial(whatever_is_there, optional))])

    # Requests and passes.

    @contextmanager
    def _working_on(self, p: Any) -> Iterator[_Pass]:
        """A pass over one of the host's processing objects, and a request where none is open."""
        self._close_stale(p)
        found = self._tracking.current()
        if found is not None and found.owner is p:
            yield _Pass(False, None)
            return
        with self._tracking.request(*_sort(p)) as request, self._tracking.run(_sort(p)[0], p):
            yield _Pass(True, request if found is None else None)

    def _wrap_process(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def process_images(p: Any, *args: Any, **kwargs: Any) -> Any:
            with self._working_on(p) as begun:
                return begun.done(original(p, *args, **kwargs))

        return process_images

    def _wrap_manage(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Whoever bound `process_images` before it was wrapped comes here first, then to `_wrap_inner`."""

        def manage_model_and_prompt_cache(p: Any, *args: Any, **kwargs: Any) -> Any:
            with ExitStack() as entered:
                begun = entered.enter_context(self._working_on(p))
                done = original(p, *args, **kwargs)
                if begun.new:
                    self._thread.begun = (p, begun, entered.pop_all())
            return done

        return manage_model_and_prompt_cache

    def _wrap_inner(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def process_images_inner(p: Any, *args: Any, **kwargs: Any) -> Any:
            known = getattr(self._thread, "begun", None)
            if known is None or known[0] is not p:
                with self._working_on(p) as begun:
                    return begun.done(original(p, *args, **kwargs))
            self._thread.begun = None
            _, begun, entered = known
            with entered:
                return begun.done(original(p, *args, **kwargs))

        return process_images_inner

    def _close_stale(self, p: Any) -> None:
        """A request that was begun and raised before it came to its images."""
        begun = getattr(self._thread, "begun", None)
        if begun is not None and begun[0] is not p:
            self._thread.begun = None
            begun[1].failed()
            begun[2].close()

    def _wrap_script(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A script that the user selected makes as many images as it likes: all of it is one request."""

        def run(runner: Any, p: Any, *args: Any, **kwargs: Any) -> Any:
            if not args or not args[0] or self._tracking.current() is not None:
                return original(runner, p, *args, **kwargs)
            with self._tracking.request(*_sort(p)) as request:
                return _Pass(True, request).done(original(runner, p, *args, **kwargs))

        return run

    def _wrap_extras(self, via: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            with self._tracking.request("extras", via):
                return original(*args, **kwargs)

        return run

    # Stages.

    def _wrap_part(self, part: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def stage(*args: Any, **kwargs: Any) -> Any:
            with self._tracking.stage(part):
                return original(*args, **kwargs)

        return stage

    def _wrap_hires(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def sample_hr_pass(p: Any, *args: Any, **kwargs: Any) -> Any:
            with self._tracking.run("hires", p):
                return original(p, *args, **kwargs)

        return sample_hr_pass

    def _wrap_decode(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def decode_latent_batch(*args: Any, **kwargs: Any) -> Any:
            with self._tracking.stage("vae"):
                decoded = original(*args, **kwargs)
            if self._in_infotext:
                self._tell_infotext()
            return decoded

        return decode_latent_batch

    def _tell_infotext(self) -> None:
        found = self._tracking.current()
        told = getattr(found.owner if found is not None else None, "extra_generation_params", None)
        if isinstance(told, dict):
            told[INFOTEXT] = seconds(self._tracking.loading_seconds())


def _sort(p: Any) -> tuple[str, str]:
    """(kind, via) of a request."""
    img2img = any("Img2Img" in each.__name__ for each in type(p).__mro__)
    return "img2img" if img2img else "txt2img", "API" if getattr(p, "is_api", False) else "page"
