"""Python's collector of cycles, which looks at every object of the process: a second in a WebUI."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """In here it does not start by itself, on any thread.

    For what makes thousands of objects and lets them go: they would start it again and again, and none is in a
    cycle.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
