"""What a model consists of in Forge and in Forge Neo."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

CPU = torch.device("cpu")
"""Where weights are at home."""


def patchers_of(engine: Any) -> Iterator[Any]:
    """The patchers of a built model, each with the module that its weights are in."""
    for part in vars(engine.forge_objects_original).values():
        patcher = getattr(part, "patcher", part)
        if isinstance(getattr(patcher, "model", None), torch.nn.Module):
            yield patcher
