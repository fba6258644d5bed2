"""Forge renames a weight file to `*.corrupted` whatever its loading raised: not where memory was short.

The host's wrapper around `safetensors.torch.load_file` renames what was given to it as a string. So it gets a path
first, which it leaves alone; only what failed for another reason than memory is given to it again as it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...patching.change import Change, Function
from ...weights.errors import is_lack_of_memory

log = logging.getLogger("flux_speedup")


def changes(make_room: Callable[[], bool]) -> list[Change]:
    """The one function. `make_room`: gives up what is kept; whether there was anything."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def load_file(filename: Any, *args: Any, **kwargs: Any) -> Any:
            if not isinstance(filename, str):
                return original(filename, *args, **kwargs)
            try:
                return original(Path(filename), *args, **kwargs)
            except Exception as error:
                short = is_lack_of_memory(error)
                if short:
                    log.warning("%s: memory is too short to load it; the file itself is sound", filename)
                if short and not make_room():
                    raise
            # Again with what was given up; what failed for another reason is the host's to deal with.
            return original(Path(filename) if short else filename, *args, **kwargs)

        return load_file

    return [Function("safetensors.torch", "load_file", make, guarded=False)]
