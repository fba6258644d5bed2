"""Which tensor of which file the host copied while it built a model: such copies need no RAM.

Embeddings and convolutions are copies of what the file has. What is proven equal, bit for bit, becomes a view of
the file.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import torch

from ...weights.files.span import find, plain
from ...weights.named import all_names
from ...weights.residency.placement import Placement
from ..common.engine import patchers_of

LEAST = 1 << 20
"""Smaller ones are not worth a look."""
log = logging.getLogger("flux_speedup")


class Sources:
    """Notes them while a model is built, on the thread that builds, and hands them to its residencies."""

    def __init__(self, placement: Placement, streamed: Callable[[Any], bool]) -> None:
        """`streamed`: whether weights can be streamed to a device."""
        self._placement = placement
        self._streamed = streamed
        self._thread = threading.local()

    def wrap_load_state_dict(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def load_state_dict(model: Any, sd: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(model, sd, *args, **kwargs)
            noted = getattr(self._thread, "noted", None)
            if noted is not None and isinstance(sd, dict) and isinstance(model, torch.nn.Module):
                noted += self._copied(model, sd)
            return result

        return load_state_dict

    def wrap_loader(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def forge_loader(*args: Any, **kwargs: Any) -> Any:
            self._thread.noted = []
            try:
                engine = original(*args, **kwargs)
                with torch.inference_mode():
                    self._adopt(engine, self._thread.noted)
            finally:
                self._thread.noted = None
            return engine

        return forge_loader

    def _copied(
        self, model: torch.nn.Module, found: dict[str, Any]
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """(parameter, tensor of the file) where the parameter is memory of its own."""
        pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
        for name, parameter in all_names(model)[0]:
            source = found.get(name)
            if parameter.nbytes < LEAST or not isinstance(source, torch.Tensor) or not plain(source):
                continue
            if parameter.dtype != source.dtype:
                continue
            if parameter.data_ptr() != source.data_ptr() and find(source, self._placement.registry):
                pairs.append((parameter, source))
        return pairs

    def _adopt(self, engine: Any, noted: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        sources = {id(parameter): source for parameter, source in noted}
        for patcher in patchers_of(engine) if sources else ():
            if not self._streamed(patcher.load_device):
                continue
            named, _ = all_names(patcher.model)
            own = {name: sources[id(parameter)] for name, parameter in named if id(parameter) in sources}
            try:
                adopted = self._placement.of(patcher.model).adopt(own, LEAST)
            except RuntimeError as error:
                log.warning("%s keeps its copies in RAM (%s)", type(patcher.model).__name__, error)
            else:
                log.debug("%s: %d tensors need no RAM", type(patcher.model).__name__, len(adopted))
