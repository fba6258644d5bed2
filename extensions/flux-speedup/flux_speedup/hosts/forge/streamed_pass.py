"""A pass that runs out of memory: units of models give way, and it is made once more, until none is left."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ... import shortage
from ...patching.change import Change, Function
from ...stats.report import size as in_words
from ...weights.errors import let_go
from .need import manager

TEXT = "backend.text_processing"
ENGINES = {"classic_engine": "ClassicTextProcessingEngine", "t5_engine": "T5TextProcessingEngine"}
MORE = 1 << 30
ATTEMPTS = 8
log = logging.getLogger("flux_speedup")


class Passes:
    """Functions of the host that are one pass of a model each, and depend on nothing but their arguments."""

    def __init__(self, make_room: Callable[[int], int]) -> None:
        """`make_room`: so many bytes are to become free; answers how many did."""
        self._make_room = make_room

    def encodings(self) -> list[Change]:
        """Each of a text is one pass."""
        return [
            Function(f"{TEXT}.{module}", f"{engine}.encode_with_transformers", self.wrap, guarded=False)
            for module, engine in ENGINES.items()
        ]

    def wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def one_pass(*args: Any, **kwargs: Any) -> Any:
            for _ in range(ATTEMPTS):
                # A ControlNet's lists are taken to pieces by a pass.
                own = {**kwargs, "control": _copied(kwargs["control"])} if "control" in kwargs else kwargs
                try:
                    return original(*args, **own)
                except Exception as error:
                    if not shortage.of_card(error):
                        raise
                    let_go(error)
                    out_of_memory = error.with_traceback(None)
                # What was computed so far is free by now, but for what the allocator keeps.
                manager().soft_empty_cache()
                gone = self._make_room(MORE)
                if gone <= 0:
                    raise out_of_memory
                log.info("out of memory: %s of weights gave way, and the pass is made again", in_words(gone))
                manager().soft_empty_cache()
            return original(*args, **kwargs)

        return one_pass


def _copied(control: Any) -> Any:
    """The same lists of the same tensors, as lists of their own."""
    if not isinstance(control, dict):
        return control
    return {name: list(each) if isinstance(each, list) else each for name, each in control.items()}
