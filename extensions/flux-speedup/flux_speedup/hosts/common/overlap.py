"""What a request will ask for next comes to the card meanwhile, where there is room for all of it.

The host builds a model, asks for its text encoders, encodes, and asks for the transformer. From the moment at which
it is known what the model is made of, the weights are on their way, text encoders first, in memory that the host's
arithmetic counts as free until it loads them: so it decides whatever it would decide without us. Where somebody
else needs that memory first, they go.

For Forge, and for Forge Neo, which has most of its names.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...collector import paused
from ...patching.change import Call, Change, Function, Undo
from ...stats.report import size as in_words
from ...weights.errors import WeightsError
from ...weights.files.identity import FileIdentity
from ...weights.residency.early import Early, in_turn
from ...weights.residency.placement import Placement
from .engine import CPU
from .wanted import Loads, Of, Wanted, model_of, of_kept, of_parts, size_of, text_encoders, transformer

MANAGER = "backend.memory_management"
PROCESSING = "modules.processing"
MODELS = "modules.sd_models"
MARGIN = 2 << 30
"""Bytes that stay free beside what comes and what the host keeps for inference."""
log = logging.getLogger("flux_speedup")


@dataclass(eq=False)
class _Coming:
    """`model`: None until it is built."""

    early: Early
    of: Of
    model: torch.nn.Module | None = None


class Overlap:
    """The wrapped functions of one process. The host makes one image at a time; other threads only look."""

    def __init__(self, placement: Placement, loads: Loads, kinds: Collection[str]) -> None:
        """`kinds`: of devices that compute and copy at once."""
        self._placement = placement
        self._loads = loads
        self._kinds = kinds
        self._coming: list[_Coming] = []
        self._on = self._asked_for = False
        self._in_vain: set[FileIdentity] = set()  # nothing of these was as the host wanted it
        self._requests = threading.local()

    def changes(self) -> list[Change]:
        return [
            Call(self._begin),
            Function(MANAGER, "load_models_gpu", self._wrap_load_models),
            Function(MANAGER, "free_memory", self._wrap_free_memory),
            Function(MANAGER, "get_free_memory", self._wrap_get_free_memory),
            Function("backend.loader", "split_state_dict", self._wrap_split),
            Function(MODELS, "forge_loader", self._wrap_loader),
            Function(PROCESSING, "manage_model_and_prompt_cache", self._wrap_manage),
            Function(PROCESSING, "process_images_inner", self._wrap_request),
        ]

    def _begin(self) -> Undo:
        self._on = True

        def end() -> None:
            self._on = False
            self._drop()

        return end

    # Models that are built, or come back.

    def comes(self, engine: Any) -> None:
        """Of one that was built before nothing is on the card, and this request will use it."""
        if self._on and self._depth() and not self._coming:
            self._begin_kept(engine)

    def _wrap_manage(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def manage_model_and_prompt_cache(*args: Any, **kwargs: Any) -> Any:
            before = _engine()
            if not self._depth():
                self._drop()  # of a request that never came to its images
            with paused():
                try:
                    with self._inside():
                        done = original(*args, **kwargs)
                except BaseException:
                    self._drop()
                    raise
                engine = _engine()
                if engine is not before and not self._coming:
                    self._begin_kept(engine)
            return done

        return manage_model_and_prompt_cache

    def _wrap_split(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def split_state_dict(*args: Any, **kwargs: Any) -> Any:
            parts, guess = found = original(*args, **kwargs)
            if any(each.model is not None for each in self._coming):
                self._drop()  # it is built anew
            cast = sys.modules[MODELS].model_data.forge_loading_parameters.get("unet_storage_dtype")
            if self._depth() and not self._coming and cast is None:
                self._begin_both(of_parts(parts, guess, self._loads))
            return found

        return split_state_dict

    def _wrap_loader(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def forge_loader(*args: Any, **kwargs: Any) -> Any:
            try:
                engine = original(*args, **kwargs)
            except BaseException:
                self._drop()
                raise
            for each in [each for each in self._coming if each.model is None]:
                each.model = model_of(engine.forge_objects, each.of, self._loads)
                if each.model is None:
                    self._drop()
                    break
                self._placement.of(each.model).take(each.early)
            return engine

        return forge_loader

    def _begin_kept(self, engine: Any) -> None:
        """A model that was built before, and of which nothing is on the card."""
        self._begin_both(of_kept(engine, self._loads))

    def _begin_both(self, wanted: Sequence[Wanted]) -> None:
        """Text encoders, then the transformer, where there is room for both; else the host moves what it likes."""
        try:
            device = _manager().get_torch_device()
            size = sum(each.size for each in wanted)
            texts_come = _manager().text_encoder_device() == device
            if wanted and texts_come and self._may(device) and self._spare(device) >= size:
                # What is built takes longer to be built than this to begin.
                self._start(self._made(wanted, device), soon=any(each.model is None for each in wanted))
        except WeightsError as error:
            self._drop()
            log.info("nothing comes before it is asked for (%s)", error)

    def _made(self, wanted: Iterable[Wanted], device: torch.device) -> Iterator[_Coming]:
        for each in wanted:
            built = None if each.model is None else self._placement.of(each.model)
            early = self._placement.early(each.tensors, device) if built is None else built.early(device)
            if not early.files <= self._in_vain:  # nor empty: what is of no file comes when it is asked for
                yield _Coming(early, each.of, each.model)

    # Loads.

    def _wrap_load_models(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def load_models_gpu(models: Any, *args: Any, **kwargs: Any) -> Any:
            if self._asked_for:
                return original(models, *args, **kwargs)
            models = list(models)  # the host goes through them after us
            wanted = {id(patcher.model) for patcher in models}
            asked = [each for each in self._coming if id(each.model) in wanted]
            if not asked or any(each.of is transformer for each in asked):
                # Another one, such as a VAE that encodes, computes by what is free. And whoever samples encodes no
                # more: what is left would be in the way until the request ends.
                self._drop(but=asked)
            self._asked_for = bool(asked)
            try:
                done = original(models, *args, **kwargs)
            except BaseException:
                if asked:
                    self._drop()
                raise
            finally:
                self._asked_for = False
            self._came(asked)
            if not self._coming and self._depth():
                self._begin_next(wanted)
            return done

        return load_models_gpu

    def _wrap_free_memory(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def free_memory(memory_required: Any, device: Any, *args: Any, **kwargs: Any) -> Any:
            """What is on its way to nobody who asks now goes before anything that is there."""
            everything = kwargs.get("free_all", args[1] if len(args) > 1 else False)
            waits = self._coming and not self._asked_for
            if waits and (everything or _manager().get_free_memory(device) <= memory_required):
                self._drop()
            return original(memory_required, device, *args, **kwargs)

        return free_memory

    def _wrap_get_free_memory(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def get_free_memory(dev: Any = None, torch_free_too: bool = False) -> Any:
            found = original(dev, torch_free_too)
            taken = self._taken(dev) if self._asked_for else 0
            if not taken:
                return found
            return (found[0] + taken, found[1]) if torch_free_too else found + taken

        return get_free_memory

    def _wrap_request(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def process_images_inner(*args: Any, **kwargs: Any) -> Any:
            try:
                with self._inside():
                    return original(*args, **kwargs)
            finally:
                if not self._depth():
                    self._drop()

        return process_images_inner

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        self._requests.depth = self._depth() + 1
        try:
            yield
        finally:
            self._requests.depth -= 1

    def _depth(self) -> int:
        """Requests inside each other on this thread."""
        return int(getattr(self._requests, "depth", 0))

    def _begin_next(self, loaded: set[int]) -> None:
        """The transformer of the model whose text encoders were loaded just now, if there is room for it."""
        objects: Any = getattr(_engine(), "forge_objects", None)
        texts, model = (model_of(objects, of, self._loads) for of in (text_encoders, transformer))
        if model is None or id(texts) not in loaded or self._loads.is_loaded(model):
            return
        device = objects.unet.load_device
        if not self._may(device) or self._spare(device) < size_of(model):
            return
        try:
            self._start([_Coming(self._placement.of(model).early(device), transformer, model)])
        except WeightsError as error:
            self._drop()
            log.info("the transformer does not come before it is asked for (%s)", error)

    def _start(self, parts: Iterable[_Coming], *, soon: bool = False) -> None:
        def noted() -> Iterator[Early]:
            for each in parts:
                self._coming.append(each)
                yield each.early

        in_turn(noted(), soon=soon)
        size = sum(each.early.size for each in self._coming)
        log.debug("%s are on their way before they are asked for", in_words(size))

    def _came(self, asked: Iterable[_Coming]) -> None:
        """What a load has taken over stays; the rest of it goes."""
        for each in asked:
            each.early.stop()
            if each in self._coming:
                self._coming.remove(each)
            if each.early.came and not each.early.used:
                self._in_vain |= each.early.files

    def _may(self, device: torch.device) -> bool:
        return self._loads.whole() and device != CPU and device.type in self._kinds

    @staticmethod
    def _spare(device: torch.device) -> int:
        manager = _manager()
        return int(manager.get_free_memory(device) - manager.minimum_inference_memory()) - MARGIN

    def _taken(self, device: Any) -> int:
        coming = list(self._coming)
        if not coming:
            return 0
        device = _manager().get_torch_device() if device is None else device
        return sum(each.early.bytes for each in coming if each.early.device == device)

    def _drop(self, but: Collection[_Coming] = ()) -> None:
        """What was not asked for goes; what a load has taken over stays."""
        coming, self._coming = self._coming, list(but)
        for each in reversed(coming):  # none begins as the one before it has gone
            if each not in but:
                each.early.stop()


def _engine() -> Any:
    return sys.modules[MODELS].model_data.sd_model


def _manager() -> Any:
    return sys.modules[MANAGER]
