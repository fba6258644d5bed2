"""Bytes that the device cannot read where they are: threads read ahead into pinned slots, copies go from there.

Whoever brings does not wait; whoever needs the bytes waits until their copies are queued, and no longer.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch

from ..files.mapping import FileIdentity, Registry
from ..transfer.reader import FileSource, Source
from ..transfer.staging import Arena, Slot
from .ring import Mark
from .supply import Arrival, Load
from .timeline import Timeline

LIMIT = 96 << 20
CHUNK = 4 << 20


@dataclass(eq=False)
class _Job:
    """One load: its chunks are taken by several threads; the last one queues the casts and says that it is done."""

    load: Load
    after: Sequence[Mark]
    left: int
    begun: bool = False
    mark: Mark = None
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def arrival(self) -> Mark:
        self.done.wait()
        if self.error is not None:
            raise self.error
        return self.mark


_Chunk = tuple[_Job, torch.Tensor, torch.Tensor]


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
    ) -> None:
        self.name = name
        self._timeline = timeline
        self._registry = registry
        self._threads = threads
        self._arena = arena or Arena(limit=LIMIT, chunk=CHUNK)
        self._chunks: queue.SimpleQueue[_Chunk | None] = queue.SimpleQueue()
        self._workers: list[threading.Thread] = []
        self._slots: AbstractContextManager[list[Slot]] | None = None
        self._files: dict[FileIdentity, Source] = {}
        self._opening = threading.Lock()
        self._under_way: list[_Job] = []

    def bring(self, load: Load, after: Sequence[Mark]) -> Arrival:
        self._start()
        pieces = [
            chunk for target, source in load.copies for chunk in _cut(target, source, self._arena.chunk)
        ]
        job = _Job(load, tuple(after), len(pieces))
        self._under_way = [one for one in self._under_way if not one.done.is_set()]
        self._under_way.append(job)
        if not pieces:
            self._begin(job)
            self._end(job)
        for target, source in pieces:
            self._chunks.put((job, target, source))
        return job.arrival

    def rest(self) -> None:
        for job in self._under_way:
            job.done.wait()

    def close(self) -> None:
        self.rest()
        for _ in self._workers:
            self._chunks.put(None)
        for worker in self._workers:
            worker.join()
        self._workers.clear()
        self._timeline.drain()
        if self._slots is not None:
            self._slots.__exit__(None, None, None)
            self._slots = None
        self._arena.release()
        for source in self._files.values():
            source.close()
        self._files.clear()

    def _start(self) -> None:
        if self._workers:
            return
        lent = self._arena.slots(pinned=self._timeline.pinned)
        slots = lent.__enter__()
        self._slots = lent
        count = max(1, min(self._threads, len(slots) // 2))
        for number in range(count):
            own = slots[number::count]
            name = f"flux-speedup-stream-{number}"
            worker = threading.Thread(target=self._work, args=(own,), name=name, daemon=True)
            worker.start()
            self._workers.append(worker)

    def _work(self, slots: list[Slot]) -> None:
        fences: list[Mark] = [None] * len(slots)
        with torch.inference_mode():
            for turn in itertools.cycle(range(len(slots))):
                chunk = self._chunks.get()
                if chunk is None:
                    return
                job, target, source = chunk
                try:
                    self._timeline.wait(fences[turn])
                    self._read(slots[turn], source)
                    self._begin(job)
                    with self._timeline.copying(()):
                        target.copy_(slots[turn].tensor[: source.numel()], non_blocking=True)
                    fences[turn] = self._timeline.copied()
                except BaseException as error:  # handed to whoever needs the bytes
                    job.error = job.error or error
                self._count_off(job)

    def _begin(self, job: _Job) -> None:
        """What the place held before is not needed any more: once, before the job's first copy."""
        with job.lock:
            if not job.begun:
                with self._timeline.copying(job.after):
                    job.begun = True

    def _count_off(self, job: _Job) -> None:
        with job.lock:
            job.left -= 1
            last = job.left == 0
        if last:
            self._end(job)

    def _end(self, job: _Job) -> None:
        try:
            if job.error is None:
                with torch.inference_mode(), self._timeline.copying(()):
                    for target, source in job.load.casts:
                        target.copy_(source)
                job.mark = self._timeline.copied()
        except BaseException as error:
            job.error = error
        finally:
            job.done.set()

    def _read(self, slot: Slot, piece: torch.Tensor) -> None:
        address, length = piece.data_ptr(), piece.numel()
        mapping = self._registry.around(address, length)
        if mapping is None:
            slot.tensor[:length].copy_(piece)
            return
        offset = address - mapping.address
        with self._opening:
            source = self._files.get(mapping.identity)
            if source is None:
                source = self._files[mapping.identity] = FileSource(
                    mapping.path, mapping.identity, self._registry
                )
        source.read_into(offset, slot.view[:length])
        source.check()


def _cut(target: torch.Tensor, source: torch.Tensor, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    if target.numel() != source.numel():
        raise ValueError(f"{source.numel()} bytes do not go where {target.numel()} are")
    return [(target[at : at + size], source[at : at + size]) for at in range(0, source.numel(), size)]
