"""Weight files that something in this process saves: none that models live in is truncated."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ...patching.change import Change, Function
from ...weights.files.mapping import Registry


def changes(registry: Registry) -> list[Change]:
    """What every `save_file` of safetensors ends in, also one that an extension has imported before us.

    It opens the file under the interpreter's lock: what else looks after files that are written over cannot run
    meanwhile, and the system lets the writer through after 45 s.
    """
    wrap = partial(_wrap_serialize, registry)
    return [Function("safetensors.torch", "serialize_file", wrap, guarded=False)]


def _wrap_serialize(registry: Registry, original: Callable[..., Any]) -> Callable[..., Any]:
    def serialize_file(tensors: Any, filename: Any, *args: Any, **kwargs: Any) -> Any:
        # The checkpoint merger and others write over whatever file has the name.
        with registry.stepped_aside(real(filename)):
            return original(tensors, filename, *args, **kwargs)

    return serialize_file


def real(filename: Any) -> Path:
    """The file itself, where the name is a link; where it cannot be told, the name."""
    try:
        return Path(os.path.realpath(filename))
    except (OSError, ValueError):
        return Path(filename)
