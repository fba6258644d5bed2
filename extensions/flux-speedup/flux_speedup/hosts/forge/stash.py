"""With copy streams on, Forge keeps the weights that its last layers have cast; they go before memory is counted.

The host puts every cast weight into `backend.operations.stash`, and looks there again at the next layer that
casts, or after sampling. What the last layers of a text encoder left there would be missing from the card while
the room for the transformer is counted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ...patching.change import Change, Function

MANAGER = "backend.memory_management"
OPERATIONS = "backend.operations"


def changes() -> list[Change]:
    """The two functions that count what is free before models come or go; never within a layer."""
    return [Function(MANAGER, name, _after_clearing) for name in ("load_models_gpu", "free_memory")]


def clear() -> None:
    """Wait for the computing that uses the stashed weights, and let go of them. Nothing to do, no waiting."""
    operations: Any = sys.modules.get(OPERATIONS)
    stash = getattr(operations, "stash", None)
    if not stash:
        return
    operations.cleanup_cache()
    # Streams were turned off meanwhile: the host's own way does nothing then, and never would again.
    for _, _, finished in list(stash.values()):
        finished.synchronize()
    stash.clear()


def _after_clearing(original: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        clear()
        return original(*args, **kwargs)

    return counted
