"""What the start has made is left out of Python's garbage collection: it stays anyway.

The WebUI collects before it builds its first model, and looks through a million objects of the libraries then:
tenths of a second, in which nothing else runs. What is made from here on is collected as ever. Not where a model is
there or may be under way: what is left out is never collected, and a model is let go one day.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

from ..patching.change import Call, Change, Declined, Undo

MOST = 16 << 20
"""Bytes of parameters that are no model."""


def changes(builds_at_start: bool) -> list[Change]:
    """To be made when the WebUI has started. `builds_at_start`: a model may be under way on another thread."""
    if builds_at_start:
        raise Declined("this WebUI may be building its model while it starts")
    return [Call(_freeze)]


def _freeze() -> Undo:
    if _parameters() > MOST:
        raise Declined("a model is there already")
    gc.freeze()
    return gc.unfreeze


def _parameters() -> int:
    """Bytes of all that the collector knows of. Other tensors are there anyway: for staging, or used once."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return 0
    found = [each for each in gc.get_objects() if issubclass(type(each), torch.nn.Parameter)]
    memory = [each.untyped_storage() for each in found if each.device.type != "meta"]
    sizes: dict[int, int] = {each.data_ptr(): each.nbytes() for each in memory}  # several show the same
    return sum(sizes.values())
