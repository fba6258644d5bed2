"""A pass of the transformer that runs out of memory: more units give way, and it is made once more."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from ...stats.report import size as in_words
from ...weights.errors import OUT_OF_MEMORY

if TYPE_CHECKING:
    from .streamed import Streamed

MORE = 1 << 30
log = logging.getLogger("flux_speedup")


class Passes:
    """`KModel.apply_model`, which is one pass and depends on nothing but its arguments."""

    def __init__(
        self,
        of: Callable[[torch.nn.Module], Streamed | None],
        give_way: Callable[[torch.nn.Module, int], int],
    ) -> None:
        self._of = of
        self._give_way = give_way

    def wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def apply_model(model: Any, *args: Any, control: Any = None, **kwargs: Any) -> Any:
            # A pass takes the lists of a ControlNet to pieces.
            again = {name: list(each) for name, each in control.items()} if control else control
            try:
                return original(model, *args, control=control, **kwargs)
            except OUT_OF_MEMORY as error:
                traceback.clear_frames(error.__traceback__)
                out_of_memory = error.with_traceback(None)
            gone = self._give_way(model, MORE)
            if not gone:
                raise out_of_memory
            log.info("out of memory: %s of weights gave way, and the step is made again", in_words(gone))
            sys.modules["backend.memory_management"].soft_empty_cache()
            return original(model, *args, control=again, **kwargs)

        return apply_model
