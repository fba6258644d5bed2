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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ...collector import paused
from ...patching.change import Call, Change, Function, Undo
from ...stats.report import size as in_words
from ...weights.errors import WeightsError
from ...weights.files.identity import FileIdentity
from ...weights.residency.early import Early, in_turn
from ...weights.residency.placement import Placement
from .engine import CPU

MANAGER = "backend.memory_management"
PROCESSING = "modules.processing"
MODELS = "modules.sd_models"
TEXTS = "text_encoder"
"""What names of text encoders begin with in a checkpoint that was taken apart."""
MARGIN = 2 << 30
"""Bytes that stay free beside what comes and what the host keeps for inference."""
log = logging.getLogger("flux_speedup")


class Loads(Protocol):
    """How a host loads models.

    whole: whether models are on the card as a whole, and stay there while there is room. is_loaded: something of a
    model. is_moved: by us, when its patcher's turn comes. stays: whether a part of a checkpoint that was taken
    apart (tensors by name; a text encoder's or the transformer's) is built of the file's tensors as they are.
    """

    def whole(self) -> bool: ...
    def is_loaded(self, model: torch.nn.Module) -> bool: ...
    def is_moved(self, patcher: Any) -> bool: ...
    def stays(self, part: Mapping[str, Any], guess: Any, *, text: bool) -> bool: ...


_Of = Callable[[Any], Any]
"""Finds one of the patchers of an engine's objects; None where there is none."""


@dataclass(eq=False)
class _Coming:
    """`model`: None until it is built."""

    early: Early
    of: _Of
    model: torch.nn.Module | None = None


@dataclass(frozen=True)
class _Wanted:
    """A model of so many bytes, of which `tensors` may come; `model`: None until it is built."""

    of: _Of
    size: int
    tensors: Sequence[torch.Tensor] = ()
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
            found = original(*args, **kwargs)
            if any(each.model is not None for each in self._coming):
                self._drop()  # it is built anew
            if self._depth() and not self._coming:
                self._begin_built(*found)
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
                each.model = self._model(each.of, engine.forge_objects)
                if each.model is None:
                    self._drop()
                    break
                self._placement.of(each.model).take(each.early)
            return engine

        return forge_loader

    def _begin_built(self, parts: Any, guess: Any) -> None:
        """What the host has taken a checkpoint apart into, before it builds anything of it."""
        if sys.modules[MODELS].model_data.forge_loading_parameters.get("unet_storage_dtype") is not None:
            return
        texts = [parts[name] for name in parts if name.startswith(TEXTS)]
        both = {_texts: texts, _transformer: [parts[guess.unet_target]]}
        self._begin_both(
            _Wanted(
                of,
                sum(tensor.nbytes for part in found for tensor in _tensors(part)),
                [
                    tensor
                    for part in found
                    if self._loads.stays(part, guess, text=of is _texts)
                    for tensor in _tensors(part)
                ],
            )
            for of, found in both.items()
        )

    def _begin_kept(self, engine: Any) -> None:
        """A model that was built before, and of which nothing is on the card."""
        objects = getattr(engine, "forge_objects", None)
        models = [(of, self._model(of, objects)) for of in (_texts, _transformer)]
        if not any(model is None or self._loads.is_loaded(model) for _, model in models):
            self._begin_both(
                _Wanted(of, _size(model), model=model) for of, model in models if model is not None
            )

    def _begin_both(self, both: Iterable[_Wanted]) -> None:
        """Text encoders, then the transformer, where there is room for both; else the host moves what it likes."""
        try:
            wanted, device = list(both), _manager().get_torch_device()
            size = sum(each.size for each in wanted)
            texts_come = _manager().text_encoder_device() == device
            if texts_come and self._may(device) and self._spare(device) >= size:
                # What is built takes longer to be built than this to begin.
                self._start(self._made(wanted, device), soon=any(each.model is None for each in wanted))
        except WeightsError as error:
            self._drop()
            log.info("nothing comes before it is asked for (%s)", error)

    def _made(self, wanted: Iterable[_Wanted], device: torch.device) -> Iterator[_Coming]:
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
            wanted = {id(patcher.model) for patcher in models}
            asked = [each for each in self._coming if id(each.model) in wanted]
            if not asked or any(each.of is _transformer for each in asked):
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
        texts, model = self._model(_texts, objects), self._model(_transformer, objects)
        if model is None or id(texts) not in loaded or self._loads.is_loaded(model):
            return
        device = objects.unet.load_device
        if not self._may(device) or self._spare(device) < _size(model):
            return
        try:
            self._start([_Coming(self._placement.of(model).early(device), _transformer, model)])
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

    def _model(self, of: _Of, objects: Any) -> torch.nn.Module | None:
        """What is moved by us of an engine's objects, if there is such a model."""
        patcher = of(objects)
        model = getattr(patcher, "model", None)
        return model if isinstance(model, torch.nn.Module) and self._loads.is_moved(patcher) else None

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


def _texts(objects: Any) -> Any:
    return getattr(getattr(objects, "clip", None), "patcher", None)


def _transformer(objects: Any) -> Any:
    return getattr(objects, "unet", None)


def _tensors(part: Mapping[str, Any]) -> Iterator[torch.Tensor]:
    return filter(torch.is_tensor, part.values())


def _size(model: torch.nn.Module) -> int:
    """Bytes of it that are at home."""
    return sum(tensor.nbytes for tensor in model.parameters() if tensor.device == CPU)


def _engine() -> Any:
    return sys.modules[MODELS].model_data.sd_model


def _manager() -> Any:
    return sys.modules[MANAGER]
