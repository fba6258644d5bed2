"""ADetailer's script: what it does to an image counts as a detector's work."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from ...patching.change import Call, Change, Undo
from ...patching.guard import Guarded, reporter

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


def changes(wrap: Wrap) -> list[Change]:
    """Wrap what ADetailer does to every image, wherever it is installed. Asked once scripts are loaded."""
    return [Call(partial(_watch, each, wrap)) for each in _detectors()]


def _watch(detector: type, wrap: Wrap) -> Undo:
    # A script is no module that could be imported by its name, so its class is changed where it is.
    original: Any = vars(detector)["postprocess_image"]
    guard = Guarded(f"{detector.__name__}.postprocess_image", original, wrap, reporter())

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return guard(*args, **kwargs)

    detector.postprocess_image = wrapped  # type: ignore[attr-defined]

    def undo() -> None:
        if vars(detector).get("postprocess_image") is wrapped:
            detector.postprocess_image = original  # type: ignore[attr-defined]

    return undo


def _detectors() -> list[type]:
    listed = getattr(sys.modules.get("modules.scripts"), "scripts_data", None) or []
    classes = {getattr(each, "script_class", None) for each in listed}
    return [
        each
        for each in classes
        if isinstance(each, type)
        and each.__name__ == "AfterDetailerScript"
        and "postprocess_image" in vars(each)
    ]
