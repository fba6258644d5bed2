"""LoRAs that had no memory and went on without themselves: of that, Comfy's kinds of them write a line to the log.

An allocator's count of refusals tells less: with `--cuda-malloc` there is none, what cuBLAS was refused is not in
it, and what somebody could do without is.
"""

from __future__ import annotations

import logging

from ... import shortage
from ...patching.change import Call, Change, Undo


class _Told(logging.Filter):
    """On the root logger, which those kinds use. `count`: so many of its errors said so."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR and shortage.of_card(RuntimeError(record.getMessage())):
            self.count += 1
        return True


_TOLD = _Told()


def refusals() -> int:
    """How many there were so far, on any thread and device: one too many is only made again."""
    return _TOLD.count


def changes() -> list[Change]:
    return [Call(_listen)]


def _listen() -> Undo:
    logging.getLogger().addFilter(_TOLD)
    return lambda: logging.getLogger().removeFilter(_TOLD)
