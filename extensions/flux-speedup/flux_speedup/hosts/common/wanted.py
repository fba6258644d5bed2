"""What a request is going to ask for: of a checkpoint that was just taken apart, or of a model that was kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from .engine import CPU

TEXTS = "text_encoder"
"""What names of text encoders begin with in a checkpoint that was taken apart."""


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


Of = Callable[[Any], Any]
"""Finds one of the patchers of an engine's objects; None where there is none."""


@dataclass(frozen=True)
class Wanted:
    """A model of so many bytes, of which `tensors` may come; `model`: None until it is built."""

    of: Of
    size: int
    tensors: Sequence[torch.Tensor] = ()
    model: torch.nn.Module | None = None


def of_parts(parts: Mapping[str, Any], guess: Any, loads: Loads) -> list[Wanted]:
    """Text encoders and transformer of a checkpoint that the host is about to build."""
    texts = [parts[name] for name in parts if name.startswith(TEXTS)]
    both: dict[Of, list[Any]] = {text_encoders: texts, transformer: [parts[guess.unet_target]]}
    return [
        Wanted(
            of,
            sum(tensor.nbytes for part in found for tensor in _tensors(part)),
            [
                tensor
                for part in found
                if loads.stays(part, guess, text=of is text_encoders)
                for tensor in _tensors(part)
            ],
        )
        for of, found in both.items()
    ]


def of_kept(engine: Any, loads: Loads) -> list[Wanted]:
    """Both of an engine that was built before; none where it has not both, or something of it is loaded."""
    objects = getattr(engine, "forge_objects", None)
    models = [(of, model_of(objects, of, loads)) for of in (text_encoders, transformer)]
    if any(model is None or loads.is_loaded(model) for _, model in models):
        return []
    return [Wanted(of, size_of(model), model=model) for of, model in models if model is not None]


def model_of(objects: Any, of: Of, loads: Loads) -> torch.nn.Module | None:
    """What is moved by us of an engine's objects, if there is such a model."""
    patcher = of(objects)
    model = getattr(patcher, "model", None)
    return model if isinstance(model, torch.nn.Module) and loads.is_moved(patcher) else None


def size_of(model: torch.nn.Module) -> int:
    """Bytes of it that are at home."""
    return sum(tensor.nbytes for tensor in model.parameters() if tensor.device == CPU)


def text_encoders(objects: Any) -> Any:
    return getattr(getattr(objects, "clip", None), "patcher", None)


def transformer(objects: Any) -> Any:
    return getattr(objects, "unet", None)


def _tensors(part: Mapping[str, Any]) -> Iterator[torch.Tensor]:
    return filter(torch.is_tensor, part.values())
