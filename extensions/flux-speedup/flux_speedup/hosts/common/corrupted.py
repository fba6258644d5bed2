"""WebUIs of Forge's family rename a weight file to `*.corrupted` where loading failed: not for want of memory.

Their wrappers around `safetensors.torch.load_file` and `torch.load` rename what was given to them as a string.
So they get a path first, which they leave alone; only what failed for another reason they get again as it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ... import shortage
from ...patching.change import Change, Function

log = logging.getLogger("flux_speedup")


def changes(make_room: Callable[[], bool]) -> list[Change]:
    """The two functions. `make_room`: gives up what is kept; whether there was anything."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def load(*args: Any, **kwargs: Any) -> Any:
            if not args or not isinstance(args[0], str):
                return original(*args, **kwargs)
            name, *others = args
            try:
                return original(Path(name), *others, **kwargs)
            except Exception as error:
                short = shortage.of_ram(error)
                if short:
                    log.warning("%s: memory is too short to load it; the file itself is sound", name)
                if short and not make_room():
                    raise
            # Again with what was given up; what failed for another reason is the host's to deal with.
            return original(Path(name) if short else name, *others, **kwargs)

        return load

    return [
        Function(module, name, make, guarded=False)
        for module, name in (("safetensors.torch", "load_file"), ("torch", "load"))
    ]
