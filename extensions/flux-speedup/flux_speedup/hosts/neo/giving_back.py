"""What Forge Neo's own unloading frees last is given back to the card as well.

It empties PyTorch's cache and collects garbage then: what dies with that stays taken until the next image.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from ...patching.change import Change, Function

MODELS = "modules.sd_models"


def changes(manager: str) -> list[Change]:
    """`manager`: the memory manager's module."""
    return [Function(MODELS, "unload_model_weights", partial(_wrap_unload, manager), guarded=False)]


def _wrap_unload(manager: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def unload_model_weights(*args: Any, **kwargs: Any) -> Any:
        answer = original(*args, **kwargs)
        sys.modules[manager].soft_empty_cache()  # type: ignore[attr-defined]
        return answer

    return unload_model_weights
