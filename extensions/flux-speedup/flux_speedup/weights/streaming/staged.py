"""Bytes that the device cannot read where they are: threads read ahead into pinned slots, copies go from there.

Readers do nothing but read, in pieces as large as a slot; one thread more queues the copies and hands slots out
again. So what needs the interpreter costs a few dozen microseconds a slot, and reading keeps all cores.
Whoever brings does not wait; whoever needs the bytes waits until their copies are queued, and no longer.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch

from ..files.mapping import FileIdentity, Registry, Standing
from ..transfer.reader import FileSource, MemorySource, Source
from ..transfer.staging import Arena, Slot, SpareArena
from .cached import CachedPart
from .job import Job
from .ring import Mark
from .slots import Part, Slots, packed
from .supply import Arrival, Load, finish
from .timeline import Timeline

LIMIT = 160 << 20
CHUNK = 8 << 20
SPARE_ARENA = SpareArena(lambda: Arena(limit=LIMIT, chunk=CHUNK))
"""A text encoder streams for a second at each prompt."""
WRITER_S = 5.0
"""Whoever writes over a file waits no longer for what was to be read from it: the system lets him go by itself."""


_ToRead = tuple[Job, Sequence[Part]]
_Read = tuple[Job, Sequence[Part], Slot | None]


class Staged:
    """A supply with threads of its own, which run from the first load until `close`."""

    def __init__(
        self,
        timeline: Timeline,
        registry: Registry,
        name: str,
        threads: int,
        *,
        arena: Arena | None = None,
        in_ram: Callable[[torch.Tensor], Source] = MemorySource,
        cached: CachedPart | None = None,
        is_written: Callable[[FileIdentity, int, int], bool] = lambda _identity, _address, _length: False,
    ) -> None:
        """`threads`: that read; one more queues. `in_ram`: how a tensor is read that is no view of a file, or of
        which `is_written` says that its memory is not as the file is.
        """
        self.name = name
        self._timeline = timeline
        self._registry = registry
        self._threads = threads
        self._in_ram = in_ram
        self._is_written = is_written
        self._cached = cached or CachedPart()
        self._given = arena
        self._chunk = CHUNK if arena is None else arena.chunk
        self._arena: Arena | None = None  # from the first load until `close`
        self._to_read: queue.SimpleQueue[_ToRead | None] = queue.SimpleQueue()
        self._to_queue: queue.SimpleQueue[_Read | None] = queue.SimpleQueue()
        self._readers: list[threading.Thread] = []
        self._queuer: threading.Thread | None = None
        self._lent: AbstractContextManager[list[Slot]] | None = None
        self._files: dict[FileIdentity, FileSource] = {}
        self._under_way: deque[Job] = deque()  # as they were brought; copies are queued in this order
        registry.writers.tell(self._written_over)

    def bring(self, load: Load, after: Sequence[Mark]) -> Arrival:
        straight: list[tuple[torch.Tensor, torch.Tensor]] = []
        parts: list[Part] = []
        for target, source in load.copies:
            if self._timeline.pinned and source.is_pinned():
                straight.append((target, source))
            else:
                parts.append(self._part(target, source))
        # All of a weight at once: what the system keeps together goes only as a whole.
        passing = [part for part in parts if isinstance(part.source, FileSource) and not self._stays(part)]
        chunks = packed(parts, self._chunk)
        sources = {id(part.source): part.source for part in parts}
        job = Job(load, tuple(after), straight, tuple(sources.values()), passing, len(chunks))
        self._start()
        self._under_way.append(job)
        for chunk in chunks:
            self._to_read.put((job, chunk))
        if not chunks:
            self._to_queue.put((job, (), None))
        return job.arrival

    def go(self) -> None:
        return

    def rest(self) -> None:
        with contextlib.suppress(IndexError):  # there is none
            self._under_way[-1].done.wait()

    def _written_over(self, identity: FileIdentity) -> None:
        """What was brought so far may be read from its pages, or by the device, only after this."""
        kept = (m.standing is Standing.RAM for m in self._registry.live() if m.identity == identity)
        with contextlib.suppress(IndexError):  # there is none
            if any(kept) and self._under_way[-1].done.wait(WRITER_S):
                self._timeline.drain()

    def close(self) -> None:
        self.rest()
        self._stop()
        self._timeline.drain()
        if self._lent is not None:
            self._lent.__exit__(None, None, None)
            self._lent = None
        if self._arena is not None and self._given is None:
            SPARE_ARENA.give(self._arena)
        elif self._arena is not None:
            self._arena.release()
        self._arena = None
        for source in self._files.values():
            source.close()
        self._files.clear()

    def _part(self, target: torch.Tensor, source: torch.Tensor) -> Part:
        address, length = source.data_ptr(), source.numel()
        if target.numel() != length:
            raise ValueError(f"{length} bytes do not go where {target.numel()} are")
        mapping = self._registry.around(address, length)
        if mapping is not None and mapping.standing is Standing.RAM:
            mapping = None  # its file was written over
        if mapping is None or self._is_written(mapping.identity, address, length):
            return Part(target, self._in_ram(source), 0)
        file = self._files.get(mapping.identity)
        if file is None:
            file = FileSource(mapping.path, mapping.identity, self._registry)
            self._files[mapping.identity] = file
        return Part(target, file, address - mapping.address)

    def _stays(self, part: Part) -> bool:
        return self._cached.stays((part.source, part.offset), part.length)

    def _start(self) -> None:
        if self._queuer is not None:
            return
        if self._lent is None:
            self._arena = self._given or SPARE_ARENA.take()
            lent = self._arena.slots(pinned=self._timeline.pinned)
            self._slots = Slots(lent.__enter__(), self._timeline)
            self._lent = lent
        self._queuer = self._thread(self._queue, "queue")
        try:
            for number in range(max(1, min(self._threads, self._slots.count - 1))):
                self._readers.append(self._thread(self._read, str(number)))
        except RuntimeError:  # no more threads here; a few will do
            if not self._readers:
                self._stop()
                raise

    def _thread(self, work: Callable[[], None], name: str) -> threading.Thread:
        thread = threading.Thread(target=work, name=f"flux-speedup-stream-{name}", daemon=True)
        thread.start()
        return thread

    def _stop(self) -> None:
        for _ in self._readers:
            self._to_read.put(None)
        for reader in self._readers:
            reader.join()
        self._readers.clear()
        if self._queuer is not None:
            self._to_queue.put(None)
            self._queuer.join()
            self._queuer = None

    def _read(self) -> None:
        """A reader's work. It has a slot before it takes a chunk: so whatever is first in order has one, too."""
        while True:
            slot = self._slots.take()
            wanted = self._to_read.get()
            if wanted is None:
                self._slots.give(slot)
                return
            job, parts = wanted
            try:
                at = 0
                for part in parts if job.error is None else ():
                    part.source.read_into(part.offset, slot.view[at : at + part.length])
                    at += part.room
            except BaseException as error:  # handed to whoever needs the bytes
                job.error = error
            self._to_queue.put((job, parts, slot))

    def _queue(self) -> None:
        """The work of the thread that queues: load by load, so that no place gets an older load's bytes last."""
        with torch.inference_mode(), self._timeline.copying(()):
            while (read := self._to_queue.get()) is not None:
                job, parts, slot = read
                if slot is not None:
                    job.read.append((parts, slot))
                while self._under_way and self._go_on(self._under_way[0]):
                    self._under_way.popleft()
                self._slots.collect()

    def _go_on(self, job: Job) -> bool:
        """Queue what has been read of it; whether that was all."""
        for parts, slot in job.read:
            self._slots.copied(slot, self._copy(job, parts, slot))
        job.left -= len(job.read)
        job.read.clear()
        if job.left:
            return False
        self._end(job)
        return True

    def _copy(self, job: Job, parts: Sequence[Part], slot: Slot) -> Mark:
        """Raises nothing; after an error no copy reads the slot."""
        if job.error is not None:
            return None
        try:
            self._begin(job)
            at = 0
            for part in parts:
                part.target.copy_(slot.tensor[at : at + part.length], non_blocking=True)
                at += part.room
            return self._timeline.copied()
        except BaseException as error:
            self._fail(job, error)
            return None

    def _begin(self, job: Job) -> None:
        if job.begun:
            return
        with self._timeline.copying(job.after):  # what the place held before is not needed any more
            for target, source in job.straight:
                target.copy_(source, non_blocking=True)
        job.begun = True

    def _end(self, job: Job) -> None:
        try:
            if job.error is None:
                self._begin(job)
                for source in job.sources:
                    source.check()
                for part in job.passing:
                    part.source.forget(part.offset, part.length)
                job.mark = finish([job.load], self._timeline)
        except BaseException as error:
            job.error = error
        if job.error is not None:  # a reader's, perhaps: copies of what had been read are under way
            self._fail(job, job.error)
        job.end()

    def _fail(self, job: Job, error: BaseException) -> None:
        """Whoever needs it is told; its memory may be let go."""
        job.error = error
        with contextlib.suppress(Exception):
            self._timeline.drain()
