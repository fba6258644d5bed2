"""One run of a plan: threads, slots, and the order in which everything is let go when something fails."""

from __future__ import annotations

import queue
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import torch

from .item import Item, requests_of
from .lane import Lane
from .plan import Chunk, Part, make_plan
from .reader import Source, SourceOpener
from .ring import Ring
from .staging import Slot

Arrived = Callable[[int, torch.Tensor], None]
"""Told on the caller's thread, in the lane's `behind`, once all copies into item number n are queued."""

_BATCH = 512 << 20  # bytes allocated before copies into them may start


class _Stopped(Exception):
    """Another thread failed; this one ends."""


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
    ) -> None:
        self._items = items
        self._lane = lane
        self._opener = opener
        self._arrived = arrived
        self._sources: list[Source] = []
        self._origins, requests = requests_of(items)
        self._plan = make_plan(requests, chunk=chunk)
        threads = max(1, min(threads, len(slots), len(self._plan)))
        per_thread = len(slots) // threads
        self._slots = [slots[n * per_thread : (n + 1) * per_thread] for n in range(threads)]
        self._chunk = chunk
        self._next: Iterator[Chunk] = iter(self._plan)
        self._lock = threading.Lock()
        self._missing = Counter({request.dest: request.length for request in requests})
        self._queue: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._ready = threading.Condition()
        self._stop = False
        self._error: BaseException | None = None
        self._tensors: list[torch.Tensor | None] = [None] * len(items)
        self._flat: list[torch.Tensor | None] = [None] * len(items)
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
            self._allocate()
            self._finish(workers)
            return [tensor for tensor in self._tensors if tensor is not None]
        except BaseException as error:
            self._give_up(workers, error)
            raise
        finally:
            for source in self._sources:
                source.close()
            self._flat.clear()
            self._scratch.clear()

    def _finish(self, workers: list[threading.Thread]) -> None:
        running = len(workers)
        while running and not self._stop:
            dest = self._queue.get()
            if dest is None:
                running -= 1
            elif self._arrived is not None:
                self._tell([dest])
        for worker in workers:
            worker.join()
        if self._error is not None:
            raise self._error
        for source in self._sources:
            source.check()
        self._lane.finish()

    def _tell(self, dests: list[int]) -> None:
        while not self._queue.empty() and len(dests) < 64:
            more = self._queue.get()
            if more is None:
                self._queue.put(None)
                break
            dests.append(more)
        with self._lane.behind():
            for dest in dests:
                tensor = self._tensors[dest]
                if tensor is not None and self._arrived is not None:
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
            self._tensors.clear()
            self._flat.clear()
            self._scratch.clear()

    def _halt(self, error: BaseException | None) -> None:
        with self._ready:
            if self._error is None:
                self._error = error
            self._stop = True
            self._ready.notify_all()

    def _make_scratch(self) -> None:
        """Device memory for bytes before their cast, a chunk for each thread: they share one stream."""
        if any(item.cast for item in self._items):
            self._scratch = [self._lane.empty((self._chunk,), torch.uint8) for _ in self._slots]

    def _allocate(self) -> None:
        """Every tensor, in the order of its first bytes, published in batches so that copies start early."""
        order = dict.fromkeys(part.dest for chunk in self._plan for part in chunk.parts)
        order.update(dict.fromkeys(range(len(self._items))))
        batch: list[int] = []
        size = 0
        for dest in order:
            if self._stop:
                return
            item = self._items[dest]
            with torch.inference_mode(item.inference):
                self._tensors[dest] = self._allocate_one(item)
            batch.append(dest)
            size += item.bytes
            if size >= _BATCH:
                self._publish(batch)
                batch, size = [], 0
        self._publish(batch)

    def _allocate_one(self, item: Item) -> torch.Tensor:
        tensor = self._lane.empty(item.shape, item.dtype)
        if isinstance(item.origin, torch.Tensor) and not item.staged:
            if not item.origin.is_contiguous():
                tensor = tensor.as_strided(item.shape, _dense_strides(item.origin))
            with torch.inference_mode():
                tensor.copy_(item.origin)
        return tensor

    def _publish(self, batch: list[int]) -> None:
        self._lane.publish()
        with self._ready:
            for dest in batch:
                tensor = self._tensors[dest]
                if tensor is not None and self._missing[dest]:
                    self._flat[dest] = tensor.reshape(-1)
                else:
                    self._queue.put(dest)
            self._ready.notify_all()

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
        except _Stopped:
            pass
        except BaseException as error:  # handed to the caller's thread, whatever it is
            self._halt(error)
        finally:
            self._queue.put(None)

    def _chunks(self) -> Iterator[Chunk]:
        while True:
            with self._lock:
                chunk = None if self._stop else next(self._next, None)
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
        flat = self._flat[part.dest]
        if flat is None:
            flat = self._wait_for(part.dest)
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

    def _wait_for(self, dest: int) -> torch.Tensor:
        with self._ready:
            self._ready.wait_for(lambda: self._stop or self._flat[dest] is not None)
            flat = self._flat[dest] if not self._stop else None
        if flat is None:
            raise _Stopped
        return flat


def _dense_strides(tensor: torch.Tensor) -> tuple[int, ...]:
    """Strides of a dense tensor with the given one's order of dimensions (channels last stays so)."""
    return tuple(torch.empty_like(tensor, device="meta").stride())
