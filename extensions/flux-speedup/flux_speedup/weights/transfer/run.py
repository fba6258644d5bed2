"""One run of a plan: threads, slots, and the order in which everything is let go when something fails."""

from __future__ import annotations

import queue
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import torch

from .destinations import Destinations, Stopped
from .item import Item, requests_of
from .lane import Lane
from .plan import Chunk, Part, make_plan
from .reader import Source, SourceOpener
from .ring import Ring
from .staging import Slot

Arrived = Callable[[int, torch.Tensor], None]
"""Told on the caller's thread, in the lane's `behind`, once all copies into item number n are queued."""


class Run:
    """Used once. `go` runs on the caller's thread and stream."""

    def __init__(
        self,
        items: Sequence[Item],
        lane: Lane,
        slots: list[Slot],
        chunk: int,
        threads: int,
        opener: SourceOpener,
        arrived: Arrived | None = None,
        straight: Mapping[int, Sequence[torch.Tensor]] = MappingProxyType({}),
    ) -> None:
        """`straight`: items whose bytes the device can read where they are; the caller's thread copies those."""
        self._items = items
        self._lane = lane
        self._opener = opener
        self._arrived = arrived
        self._sources: list[Source] = []
        self._straight = straight
        self._origins, requests = requests_of(items)
        requests = [request for request in requests if request.dest not in straight]
        self._plan = make_plan(requests, chunk=chunk)
        threads = max(1, min(threads, len(slots), len(self._plan)))
        per_thread = len(slots) // threads
        self._slots = [slots[n * per_thread : (n + 1) * per_thread] for n in range(threads)]
        self._chunk = chunk
        self._next: Iterator[Chunk] = iter(self._plan)
        self._lock = threading.Lock()
        self._missing = Counter({request.dest: request.length for request in requests})
        self._unread = [n for n in range(len(items)) if not self._missing[n] and n not in straight]
        # Numbers of items that have arrived, and None from each thread that ended.
        self._queue: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._destinations = Destinations(items, lane)
        self._scratch: list[torch.Tensor] = []

    def go(self) -> list[torch.Tensor]:
        """The new tensors, complete. After an error no copy is under way and no tensor is left."""
        workers: list[threading.Thread] = []
        try:
            for origin in self._origins:
                self._sources.append(self._opener(origin))
            self._make_scratch()
            for number, slots in enumerate(self._slots):
                name = f"flux-speedup-reader-{number}"
                worker = threading.Thread(target=self._work, args=(slots, number), name=name, daemon=True)
                worker.start()
                workers.append(worker)
            self._destinations.allocate(self._order(), self._send)
            self._finish(workers)
            return [tensor for tensor in self._destinations.tensors if tensor is not None]
        except BaseException as error:
            self._give_up(workers, error)
            raise
        finally:
            for source in self._sources:
                source.close()
            self._destinations.drop()
            self._scratch.clear()

    def _make_scratch(self) -> None:
        """Device memory for bytes before their cast, a chunk for each thread: they share one stream."""
        if any(item.cast for item in self._items):
            self._scratch = [self._lane.empty((self._chunk,), torch.uint8) for _ in self._slots]

    def _order(self) -> list[int]:
        """Items by their first bytes, those that go straight, then those that nothing is read for."""
        order = dict.fromkeys(part.dest for chunk in self._plan for part in chunk.parts)
        return [*order, *self._straight, *self._unread]

    def _send(self, dests: Sequence[int]) -> None:
        """Copy what goes straight among items that were just published."""
        for dest in dests:
            pieces = self._straight.get(dest)
            if pieces is None:
                continue
            targets = torch.split(
                self._destinations.flat(dest).view(torch.uint8), [p.numel() for p in pieces]
            )
            with self._lane.copying():
                for target, piece in zip(targets, pieces, strict=True):
                    self._lane.copy(target, piece)
            self._tell([dest])

    def _finish(self, workers: list[threading.Thread]) -> None:
        self._tell(self._unread)
        running = len(workers)
        while running and not self._destinations.stopped:
            dest = self._queue.get()
            if dest is None:
                running -= 1
            else:
                self._tell([dest])
        for worker in workers:
            worker.join()
        if self._error is not None:
            raise self._error
        self._lane.finish()
        for source in self._sources:  # once no copy reads a file any more
            source.check()

    def _tell(self, dests: list[int]) -> None:
        if self._arrived is None or not dests:
            return
        with self._lane.behind():
            for dest in dests:
                tensor = self._destinations.tensors[dest]
                if tensor is not None:
                    self._arrived(dest, tensor)

    def _give_up(self, workers: list[threading.Thread], error: BaseException) -> None:
        """Stop readers, wait for every copy in flight, and only then let go of the buffers."""
        self._halt(None)
        for worker in workers:
            worker.join()
        try:
            self._lane.abort()
        finally:
            # A traceback holds the frames it went through, and those hold device memory.
            for known in (error, self._error):
                if known is not None:
                    traceback.clear_frames(known.__traceback__)

    def _halt(self, error: BaseException | None) -> None:
        with self._lock:
            if self._error is None:
                self._error = error
        self._destinations.stop()

    def _work(self, slots: list[Slot], number: int) -> None:
        try:
            with torch.inference_mode(), self._lane.copying():
                ring = Ring(slots)
                for chunk in self._chunks():
                    slot, fence = ring.free()
                    self._sources[chunk.source].read_into(chunk.offset, slot.view[: chunk.length])
                    for part in chunk.parts:
                        self._copy(part, slot, number)
                    ring.used(slot, self._lane.fence(fence))
                    self._count_off(chunk)
        except Stopped:
            pass
        except BaseException as error:  # handed to the caller's thread, whatever it is
            self._halt(error)
        finally:
            self._queue.put(None)

    def _chunks(self) -> Iterator[Chunk]:
        while True:
            with self._lock:
                chunk = None if self._destinations.stopped else next(self._next, None)
            if chunk is None:
                return
            yield chunk

    def _count_off(self, chunk: Chunk) -> None:
        with self._lock:
            for part in chunk.parts:
                self._missing[part.dest] -= part.length
                if self._missing[part.dest] == 0:
                    self._queue.put(part.dest)

    def _copy(self, part: Part, slot: Slot, number: int) -> None:
        flat = self._destinations.flat(part.dest)
        item = self._items[part.dest]
        piece = slot.tensor[part.slot_offset : part.slot_offset + part.length]
        if not item.cast:
            target = flat.view(torch.uint8)[part.dest_offset : part.dest_offset + part.length]
            self._lane.copy(target, piece)
            return
        size = item.origin.dtype.itemsize
        scratch = self._scratch[number][: part.length]
        self._lane.copy(scratch, piece)
        start = part.dest_offset // size
        self._lane.copy(flat[start : start + part.length // size], scratch.view(item.origin.dtype))
