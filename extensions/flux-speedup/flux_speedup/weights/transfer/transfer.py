"""Runs a plan: readers fill staging slots, copies take them to new device memory; all of it, or nothing."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

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
from .run import Arrived, Patience, Run
from .staging import Arena, Slot
from .turns import TURNS

MOST_THREADS = 12


def default_threads() -> int:
    """As many as the cores this process may use, 12 at most: more only wait for memory."""
    return min(MOST_THREADS, cores())


More = Callable[[], Sequence[Item]]


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
    more: More | None = None,
) -> list[torch.Tensor]:
    """New device tensors, one allocation each, in the order of `items`, and of `more` ones, which are asked for
    while these may be on their way, until there are none; complete when this returns.

    Raises TransferError naming file and reason: the copies have stopped and every new tensor was dropped.
    Runs on the caller's thread and stream, with `threads` more for reading. `arrived` is told the number and
    the tensor of each item while others are still on their way; what it queues on the device is done as well.
    What is in files that `direct` holds is not staged; what `store` has in a packed form comes in that.
    """
    parts = _Parts(items, more, lane, store, direct)
    while True:
        try:
            with _as_ours(), TURNS.asked(lane.device), ExitStack() as lent:
                slots = _taken(arena, lane, lent)
                run = Run(lane, slots, arena.chunk, lambda: threads or default_threads(), opener, arrived)
                run.begin(parts.all(lent))
                return run.complete()
        except TransferError as error:
            if not parts.do_without(error.path):
                raise


class Underway:
    """`transfer` behind the caller's back: allocating, and queueing what goes straight, take the caller's time.

    What is to be read is read meanwhile, by threads, and then the arena is taken. `arrived` is told by `complete`,
    which whoever comes first calls. `patience`: see `Run`. Raises TransferError, and Stopped where it has some.
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
        patience: Patience | None = None,
    ) -> None:
        self._tensors: list[torch.Tensor] = []
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._is_complete = False
        with _as_ours(), ExitStack() as stack:
            self._run = Run(
                lane,
                _taken(arena, lane, stack),
                arena.chunk,
                lambda: threads or default_threads(),
                opener,
                arrived,
                here=False,
                patience=patience,
            )
            self._run.begin(_Parts(items, None, lane, store, direct).all(stack))
            self._held = stack.pop_all()
        if self.reads:
            try:
                threading.Thread(target=self.complete, name="flux-speedup-early", daemon=True).start()
            except RuntimeError as error:
                self._run.halt()
                self.complete()
                raise TransferError(None, f"no more threads here ({error})") from error

    @property
    def reads(self) -> bool:
        """Whether anything of it does not go straight."""
        return self._run.reads

    def complete(self) -> None:
        """Wait until all of it has come, and tell of it, holding none of it then; on any thread, once.

        What fails is raised by `result`.
        """
        with self._lock:
            if self._is_complete:
                return
            self._is_complete = True
            try:
                self._tensors = self._run.complete()
            except BaseException as error:  # handed to whoever asks for the result
                self._error = error
            finally:
                self._held.close()

    def result(self) -> list[torch.Tensor]:
        """The tensors, complete, for the stream that was the caller's; waits. Hands them out once."""
        self.complete()
        tensors, self._tensors = self._tensors, []
        error, self._error = self._error, None
        try:
            with _as_ours():
                if error is not None:
                    raise error
        finally:
            del error  # held here, it would hold all that those have who called this, in a circle
        return tensors

    def stop(self) -> None:
        """End soon, and wait for that: no copy is under way then, and what was not handed out is let go."""
        self._run.halt()
        self.complete()
        self._tensors, self._error = [], None


class _Parts:
    """The items of a transfer, those that are there and `more`, in their packed form where that comes sooner."""

    def __init__(
        self, items: Sequence[Item], more: More | None, lane: Lane, store: Store, direct: Direct | None
    ) -> None:
        self._items = list(items)
        self._more = more
        self._device = lane.device
        self._store = store
        self._direct = direct
        self._chosen: list[Item] = []

    def all(self, lent: ExitStack) -> Iterator[tuple[Sequence[Item], Straight]]:
        """As `Run.begin` wants them; what is held of their files is lent."""
        self._chosen.clear()
        yield self._part(self._items, lent)
        while self._more is not None and (more := self._more()):
            self._items += more
            yield self._part(more, lent)
        self._more = None

    def do_without(self, path: Path | None) -> bool:
        """Whether that is a packed file, which is not offered again, whatever was wrong with it."""
        packed = (item.packed for item in self._chosen if item.packed is not None)
        own = next((each for each in packed if each.span.path == path), None)
        if own is not None:
            own.damage()
        return own is not None

    def _part(self, items: Sequence[Item], lent: ExitStack) -> tuple[Sequence[Item], Straight]:
        first = len(self._chosen)
        chosen = packed_where_better(items, self._device, self._store, self._registered)
        self._chosen += chosen
        direct = self._direct
        return chosen, Straight() if direct is None else lent.enter_context(direct.lend(chosen, first))

    def _registered(self, identity: FileIdentity) -> Callable[[Span], bool]:
        return _nowhere if self._direct is None else self._direct.having(identity)


def _taken(arena: Arena, lane: Lane, until: ExitStack) -> Callable[[], list[Slot]]:
    """The arena's slots, once they are needed, and `until` then."""
    return lambda: until.enter_context(arena.slots(pinned=lane.pinned))


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


def _nowhere(_span: Span) -> bool:
    """No device reads it where it is."""
    return False
