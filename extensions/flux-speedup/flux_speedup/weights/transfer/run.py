"""One run of a plan: threads, slots, and the order in which everything is let go when something fails."""

from __future__ import annotations

import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from ..errors import let_go
from ..files.span import Span
from .destinations import Destinations
from .direct import Straight
from .item import Item, Wanted
from .lane import Fence, Lane
from .plan import NOTHING, Chunk, Part, plan_of
from .reader import Source, SourceOpener
from .ring import Ring
from .staging import Slot
from .turns import TURNS, Turns

TELL = 256 << 20
"""Bytes that have arrived before anybody is told, but at the end: for each telling streams wait for each other."""
AHEAD = 16
"""Batches of what goes straight that are queued before anybody is told of the oldest: telling takes the host longer
than queueing does, and the bus must never be without work meanwhile."""
QUEUED = 3
"""Batches of what goes straight that whoever is patient has queued: about 15 ms of a fast bus."""
Arrived = Callable[[int, torch.Tensor], None]
"""Told in the lane's `behind`, once all copies into item number n are queued: where `begin` runs, of what goes
straight, and then where `complete` does, which may be another thread."""


class Stopped(Exception):
    """Nobody wants it any more, or another thread failed."""


@dataclass(eq=False)
class Patience:
    """Of whoever lets others by. `wanted`: whether what it brings still is; `over`: somebody waits for it now."""

    wanted: bool = True
    over: bool = False


class Run:
    """Used once: `begin` on the caller's thread and stream, then `complete`, on any thread."""

    def __init__(
        self,
        lane: Lane,
        slots: Callable[[], list[Slot]],
        chunk: int,
        threads: Callable[[], int],
        opener: SourceOpener,
        arrived: Arrived | None = None,
        *,
        here: bool = True,
        patience: Patience | None = None,
        turns: Turns = TURNS,
    ) -> None:
        """`slots`, `threads`: where to read, and how many may; asked only where anything is to be read.

        `here`: `begin` tells of what goes straight, while it queues more; else all is told in `complete`, so that
        `begin` takes the interpreter's lock no oftener than it must. `patience`: until it is over, of what
        goes straight only so much is queued that the bus is never without work, and nothing while somebody waits
        for a load, as `turns` has it; `begin` takes as long as the bus then. It raises Stopped soon after it was
        not wanted any more.
        """
        self._items: list[Item] = []
        self._lane = lane
        self._slots = slots
        self._chunk = chunk
        self._threads = threads
        self._opener = opener
        self._arrived = arrived
        self._tells_here = here
        self._patience = patience
        self._turns = turns
        self._wanted = Wanted()
        self._sources: list[Source] = []
        self._straight = Straight()
        # Points after the newest batches of what goes straight; those that nobody was told of yet, with theirs.
        self._queued: deque[Fence | None] = deque(maxlen=QUEUED + 1)
        self._sent: deque[tuple[Sequence[int], Fence | None]] = deque()
        self._unread: list[int] = []
        self._plan = NOTHING
        self._next: Iterator[Chunk] = iter(())
        self._lock = threading.Lock()
        self._missing: Counter[int] = Counter()
        # Numbers of items that have arrived, many at a time, and None from each thread that ended.
        self._queue: queue.SimpleQueue[list[int] | None] = queue.SimpleQueue()
        self._here: list[int] = []
        self._here_bytes = 0
        self._error: BaseException | None = None
        self._sums: dict[int, torch.Tensor] = {}  # of packed forms
        self._workers: list[threading.Thread] = []
        self._stopped = False
        self._destinations = Destinations(lane)

    def begin(self, parts: Iterable[tuple[Sequence[Item], Straight]]) -> None:
        """Everything is allocated, and readers work from now on. After an error nothing is left of it.

        `parts`: of the items, with those whose bytes the device can read where they are; they are copied by the
        caller's thread, while it finds the next part.
        """
        try:
            for items, straight in parts:
                with torch.inference_mode():
                    self._add(items, straight)
            with torch.inference_mode():
                self._read()
                if self._tells_here:
                    self._tell_of_sent()
        except BaseException as error:
            self._give_up(error)
            raise

    def _add(self, items: Sequence[Item], straight: Straight) -> None:
        for dest, item in enumerate(items, len(self._items)):
            self._wanted.add(dest, item, straight=dest in straight)
        self._items += items
        self._straight |= straight
        for origin in self._wanted.origins[len(self._sources) :]:
            self._sources.append(self._opener(origin) if isinstance(origin, Span) else origin)
        self._destinations.add(items)
        self._destinations.allocate(straight, {}, self._send)

    def _read(self) -> None:
        self._plan = plan = plan_of(tuple(self._wanted.requests), self._chunk)
        self._next = iter(plan.chunks)
        self._missing.update({request.dest: request.length for request in self._wanted.requests})
        self._unread = [n for n in range(len(self._items)) if n not in plan.cuts and n not in self._straight]
        # Before readers work: each allocation would wait for the lock of the interpreter, and new memory of the
        # device for their copies.
        self._destinations.allocate([*plan.cuts, *self._unread], plan.cuts)
        if not plan.chunks:
            return
        all_slots = self._slots()
        threads = min(self._threads(), len(all_slots), len(plan.chunks))
        each = len(all_slots) // max(1, threads)
        for number in range(threads):
            slots, name = all_slots[number * each : (number + 1) * each], f"flux-speedup-reader-{number}"
            worker = threading.Thread(target=self._work, args=(slots,), name=name, daemon=True)
            worker.start()
            self._workers.append(worker)

    @property
    def reads(self) -> bool:
        """Whether anything does not go straight; known once `begin` is over."""
        return bool(self._workers)

    def complete(self) -> list[torch.Tensor]:
        """The new tensors, complete. After an error no copy is under way and no tensor is left."""
        try:
            with torch.inference_mode():
                self._finish()
            return [tensor for tensor in self._destinations.tensors if tensor is not None]
        except BaseException as error:
            self._give_up(error)
            raise
        finally:
            self._let_go()

    def halt(self) -> None:
        """End early, from any thread: `complete` raises Stopped soon."""
        self._halt(Stopped())

    def _send(self, dests: Sequence[int]) -> None:
        """Copy what goes straight, and was just published; tell of what was sent well before it."""
        with self._lane.copying():
            targets: list[torch.Tensor] = []
            sources: list[torch.Tensor] = []
            for dest in dests:
                pieces = self._straight.pieces(dest)
                targets += self._destinations.cut(dest, [piece.numel() for piece in pieces])
                sources += pieces
            self._lane.copy_all(targets, sources)
            self._queued.append(self._lane.fence(None))
        self._sent.append((dests, self._queued[-1]))
        if self._patience is not None:
            self._let_by(self._patience)
        if self._tells_here:
            self._tell_of_sent(AHEAD)

    def _let_by(self, patience: Patience) -> None:
        fence = self._queued[0] if len(self._queued) > QUEUED else None
        if fence is not None and not patience.over:
            fence.synchronize()
        self._turns.let_by(self._lane.device, lambda: patience.wanted and not patience.over)
        if not patience.wanted:
            raise Stopped

    def _tell_of_sent(self, but: int = 0) -> None:
        """Of the oldest batches, `but` so many of the newest."""
        while len(self._sent) > but and not self._stopped:
            self._tell(*self._sent.popleft())

    def _finish(self) -> None:
        self._tell_of_sent()
        self._tell(self._unread)
        running = len(self._workers)
        while running and not self._stopped:
            dests = self._queue.get()
            if dests is None:
                running -= 1
            else:
                self._tell(dests)
        for worker in self._workers:
            worker.join()
        if self._error is not None:
            raise self._error
        self._tell(self._here)
        self._lane.finish()
        self._see_damage()
        for source in self._sources:  # once no copy reads a file any more
            source.check()

    def _tell(self, dests: Sequence[int], after: Fence | None = None) -> None:
        packed = {dest: found for dest in dests if (found := self._items[dest].packed) is not None}
        if not packed and (self._arrived is None or not dests):
            return
        with self._lane.behind(after):
            for dest in dests:
                tensor = self._destinations.tensors[dest]
                if tensor is not None and dest in packed:
                    # Registered pages are those that were looked at.
                    right = dest in self._straight and packed[dest].is_right
                    total = packed[dest].unpack(tensor, right=right)
                    if total is not None:
                        self._sums[dest] = total
                if tensor is not None and self._arrived is not None:
                    self._arrived(dest, tensor)

    def _see_damage(self) -> None:
        """Raises ReadError where a packed form was not as it was written: nobody has its tensor yet."""
        if not self._sums:
            return
        with self._lane.behind():  # where they were made
            sums = torch.stack(list(self._sums.values())).tolist()
        for dest, total in zip(self._sums, sums, strict=True):
            found = self._items[dest].packed
            if found is not None and not found.see(total):
                raise found.damage()

    def _give_up(self, error: BaseException) -> None:
        """Stop readers, wait for every copy in flight, and only then let go of the buffers."""
        self._halt(None)
        for worker in self._workers:
            worker.join()
        try:
            self._lane.abort()
        finally:
            self._let_go()
            # A traceback holds the frames it went through, and those hold device memory.
            for known in (error, self._error):
                if known is not None:
                    let_go(known)
            self._error = None  # held here, it would hold all that those have who called this, in a circle

    def _let_go(self) -> None:
        for source in self._sources:
            source.close()
        self._sources.clear()
        self._arrived = None
        self._straight.clear()
        self._destinations.drop()

    def _halt(self, error: BaseException | None) -> None:
        with self._lock:
            if self._error is None:
                self._error = error
            self._stopped = True

    def _work(self, slots: list[Slot]) -> None:
        try:
            with torch.inference_mode(), self._lane.copying():
                ring = Ring(slots)
                for chunk in self._chunks():
                    slot, fence = ring.free()
                    self._sources[chunk.source].read_into(chunk.offset, slot.view[: chunk.length])
                    for part in chunk.parts:
                        self._copy(part, slot)
                    ring.used(slot, self._lane.fence(fence))
                    self._count_off(chunk)
        except BaseException as error:  # handed to the caller's thread, whatever it is
            self._halt(error)
        finally:
            self._queue.put(None)

    def _chunks(self) -> Iterator[Chunk]:
        while True:
            with self._lock:
                chunk = None if self._stopped else next(self._next, None)
            if chunk is None:
                return
            yield chunk

    def _count_off(self, chunk: Chunk) -> None:
        with self._lock:
            for part in chunk.parts:
                self._missing[part.dest] -= part.length
                if self._missing[part.dest] == 0:
                    self._here.append(part.dest)
                    self._here_bytes += self._items[part.dest].bytes
            if self._here_bytes >= TELL:
                self._queue.put(self._here)
                self._here, self._here_bytes = [], 0

    def _copy(self, part: Part, slot: Slot) -> None:
        target = self._destinations.pieces(part.dest)[self._plan.number[part.dest, part.dest_offset]]
        piece = slot.tensor
        if part.length < self._chunk:
            piece = piece[part.slot_offset : part.slot_offset + part.length]
        self._lane.copy(target, piece)
