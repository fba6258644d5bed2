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


def texts_of(engine: Any) -> Iterator[Any]:
    """What encodes prompts for a built model; each has the last one's encoding, where it was computed."""
    return (each for name, each in vars(engine).items() if name.startswith("text_processing_engine"))
