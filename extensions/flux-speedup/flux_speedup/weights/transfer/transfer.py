"""Runs a plan: readers fill staging slots, copies take them to new device memory; all of it, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from ...ram import cores
from ..errors import OUT_OF_MEMORY, TransferError, WeightsError
from .direct import Direct, Straight
from .item import Item
from .lane import Lane
from .reader import SourceOpener, open_source
from .run import Arrived, Run
from .staging import Arena

MOST_THREADS = 12


def default_threads() -> int:
    """As many as the cores this process may use, 12 at most: more only wait for memory."""
    return min(MOST_THREADS, cores())


def transfer(
    items: Sequence[Item],
    lane: Lane,
    arena: Arena,
    *,
    threads: int | None = None,
    opener: SourceOpener = open_source,
    arrived: Arrived | None = None,
    direct: Direct | None = None,
) -> list[torch.Tensor]:
    """New device tensors, one allocation each, in the order of `items`; complete when this returns.

    Raises TransferError naming file and reason: the copies have stopped and every new tensor was dropped.
    Runs on the caller's thread and stream, with `threads` more for reading. `arrived` is told the number and
    the tensor of each item while others are still on their way; what it queues on the device is done as well.
    What is not cast, of files that `direct` holds, is not staged.
    """
    with torch.inference_mode():
        try:
            with arena.slots(pinned=lane.pinned) as slots, _lent(items, direct) as straight:
                count = threads or default_threads()
                return Run(items, lane, slots, arena.chunk, count, opener, arrived, straight).go()
        except TransferError:
            raise
        except WeightsError as error:
            raise TransferError(error.path, str(error.reason)) from error
        except (RuntimeError, MemoryError, OSError) as error:
            raise TransferError(None, str(error).split("\n")[0], out_of_memory=_is_memory(error)) from error


def _lent(items: Sequence[Item], direct: Direct | None) -> AbstractContextManager[Straight]:
    return nullcontext(Straight()) if direct is None else direct.lend(items)


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, (OUT_OF_MEMORY, MemoryError))
