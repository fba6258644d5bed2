"""A weight file that is written over while reForge uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...weights.residency.placement import Placement
from ..common.written_over import SD_MODELS, WrittenOver, model_data


class ReForgeWrittenOver(WrittenOver):
    """It keeps the models that it has loaded by their files, and builds one anew where it is told to."""

    reloads = ((SD_MODELS, "reload_model_weights"),)

    def __init__(self, placement: Placement) -> None:
        super().__init__(placement)
        self._anew = False

    def _wrap_reload(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def reload_model_weights(sd_model: Any = None, info: Any = None, forced_reload: bool = False) -> Any:
            there = model_data().sd_model
            path = self._gone(there)
            if forced_reload or (path is None and not self._anew) or not _is_of(there, info):
                return original(sd_model, info, forced_reload)
            with self._rebuild(path or there.filename, [there.filename]):
                built = original(sd_model, info, True)
                self._anew = False
                return built

        return reload_model_weights

    def _is_to_be_built_anew(self) -> None:
        self._anew = True


def _is_of(model: Any, info: Any) -> bool:
    """Whether a model is the one of a checkpoint, None: of the one that is chosen."""
    from modules import sd_models

    chosen = info or sd_models.select_checkpoint()
    return getattr(model, "filename", None) == getattr(chosen, "filename", "")
