"""What the start has made is left out of Python's garbage collection: it stays anyway.

The WebUI collects whenever it builds a model, and looks through a million objects of the libraries then: tenths
of a second, in which nothing else runs. What is made from here on is collected as ever.
"""

from __future__ import annotations

import gc

from ..patching.change import Call, Change, Undo


def changes() -> list[Change]:
    """To be made when the WebUI has started; costs microseconds."""
    return [Call(_freeze)]


def _freeze() -> Undo:
    gc.freeze()
    return gc.unfreeze
