"""LoRAs that had no memory and went on without themselves: of that, Comfy's kinds of them write a line to the log.

An allocator's count of refusals tells less: with `--cuda-malloc` there is none, what cuBLAS was refused is not in
it, and what somebody could do without is. It counts where no errors are logged (`--loglevel CRITICAL`).
"""

from __future__ import annotations

import logging

import torch

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
    return _TOLD.count if logging.getLogger().isEnabledFor(logging.ERROR) else by_allocators()


def by_allocators() -> int:
    """How often PyTorch's own were out of memory, whoever was told."""
    if not torch.cuda.is_initialized():
        return 0
    devices = range(torch.cuda.device_count())
    return sum(int(torch.cuda.memory_stats_as_nested_dict(one).get("num_ooms", 0)) for one in devices)


def changes() -> list[Change]:
    return [Call(_listen)]


def _listen() -> Undo:
    logging.getLogger().addFilter(_TOLD)
    return lambda: logging.getLogger().removeFilter(_TOLD)
