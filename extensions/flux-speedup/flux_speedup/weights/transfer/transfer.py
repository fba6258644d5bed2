"""Runs a plan: readers fill staging slots, copies take them to new device memory; all of it, or nothing."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext

import torch

from ...ram import cores
from ..errors import TransferError, WeightsError
from ..files.identity import FileIdentity
from ..files.span import Span
from ..packed.store import PACKED, Store
from .direct import Direct, Straight
from .item import Item, packed_where_better
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
    store: Store = PACKED,
) -> list[torch.Tensor]:
    """New device tensors, one allocation each, in the order of `items`; complete when this returns.

    Raises TransferError naming file and reason: the copies have stopped and every new tensor was dropped.
    Runs on the caller's thread and stream, with `threads` more for reading. `arrived` is told the number and
    the tensor of each item while others are still on their way; what it queues on the device is done as well.
    What is in files that `direct` holds is not staged; what `store` has in a packed form comes in that.
    """
    chosen = _chosen(items, lane, store, direct)
    try:
        return _transfer(chosen, lane, arena, threads, opener, arrived, direct)
    except TransferError as error:
        own = next(
            (i.packed for i in chosen if i.packed is not None and i.packed.span.path == error.path), None
        )
        if own is None:
            raise
        own.damage()  # whatever it was: it is not offered again
    return transfer(
        items, lane, arena, threads=threads, opener=opener, arrived=arrived, direct=direct, store=store
    )


def _transfer(
    items: Sequence[Item],
    lane: Lane,
    arena: Arena,
    threads: int | None,
    opener: SourceOpener,
    arrived: Arrived | None,
    direct: Direct | None,
) -> list[torch.Tensor]:
    with (
        torch.inference_mode(),
        _as_ours(),
        arena.slots(pinned=lane.pinned) as slots,
        _lent(items, direct) as straight,
    ):
        count = threads or default_threads()
        run = Run(items, lane, slots, arena.chunk, count, opener, arrived, straight)
        run.begin()
        return run.complete()


class Underway:
    """`transfer` behind the caller's back: allocating, and queueing what goes straight, take the caller's time.

    The arena is taken meanwhile. `arrived` is told on the caller's thread first, and then on one of its own. Raises
    TransferError.
    """

    def __init__(
        self,
        items: Sequence[Item],
        lane: Lane,
        arena: Arena,
        *,
        threads: int | None = None,
        opener: SourceOpener = open_source,
        arrived: Arrived | None = None,
        direct: Direct | None = None,
        store: Store = PACKED,
    ) -> None:
        items = _chosen(items, lane, store, direct)
        self._tensors: list[torch.Tensor] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="flux-speedup-early", daemon=True)
        with torch.inference_mode(), _as_ours(), ExitStack() as stack:
            slots = stack.enter_context(arena.slots(pinned=lane.pinned))
            straight = stack.enter_context(_lent(items, direct))
            count = threads or default_threads()
            self._run = Run(items, lane, slots, arena.chunk, count, opener, arrived, straight)
            self._run.begin()
            self._held = stack.pop_all()
        try:
            self._thread.start()
        except RuntimeError as error:
            self._run.halt()
            self._work()
            raise TransferError(None, f"no more threads here ({error})") from error

    def result(self) -> list[torch.Tensor]:
        """The tensors, complete, for the stream that was the caller's; waits. Hands them out once."""
        self._thread.join()
        tensors, self._tensors = self._tensors, []
        with _as_ours():
            if self._error is not None:
                raise self._error
        return tensors

    def stop(self) -> None:
        """End soon, and wait for that: no copy is under way then, and what was not handed out is let go."""
        self._run.halt()
        self._thread.join()
        self._tensors = []

    def _work(self) -> None:
        try:
            with torch.inference_mode():
                self._tensors = self._run.complete()
        except BaseException as error:  # handed to whoever asks for the result
            self._error = error
        finally:
            self._held.close()


@contextlib.contextmanager
def _as_ours() -> Iterator[None]:
    """Whatever fails is a TransferError."""
    try:
        yield
    except TransferError:
        raise
    except WeightsError as error:
        raise TransferError(error.path, str(error.reason)) from error
    except (RuntimeError, MemoryError, OSError) as error:
        raise TransferError(None, str(error).split("\n")[0]) from error


def _chosen(items: Sequence[Item], lane: Lane, store: Store, direct: Direct | None) -> Sequence[Item]:
    """The same, in their packed form where that comes sooner."""

    def registered(identity: FileIdentity) -> Callable[[Span], bool]:
        return _nowhere if direct is None else direct.having(identity)

    return packed_where_better(items, lane.device, store, registered)


def _lent(items: Sequence[Item], direct: Direct | None) -> AbstractContextManager[Straight]:
    return nullcontext(Straight()) if direct is None else direct.lend(items)


def _nowhere(_span: Span) -> bool:
    """No device reads it where it is."""
    return False
