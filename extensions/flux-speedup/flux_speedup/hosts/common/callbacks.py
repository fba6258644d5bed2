"""Registering a callback without reading source code.

`modules.script_callbacks.add_callback` asks `inspect.stack()` who calls, which opens and splits the source of
every file on the stack: up to 0.25 s for each callback that any extension registers. It only uses the file
names. The same list from a plain walk over the frames costs microseconds.
"""

from __future__ import annotations

import inspect
import sys
from types import FrameType
from typing import Any

from ...patching.change import Change, Value

CALLBACKS = "modules.script_callbacks"


class FrameWalk:
    """Stands in for the module `inspect` in one module of the host: `stack` is ours, all else is inspect's."""

    def stack(self, context: int = 1) -> list[inspect.FrameInfo]:
        """The caller's frames as `inspect.stack` lists them, without lines of code."""
        found: list[inspect.FrameInfo] = []
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            code = frame.f_code
            found.append(inspect.FrameInfo(frame, code.co_filename, frame.f_lineno, code.co_name, None, None))
            frame = frame.f_back
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(inspect, name)


def changes() -> list[Change]:
    """The one name of the one module."""
    return [Value(CALLBACKS, "inspect", FrameWalk())]
