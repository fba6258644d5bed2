"""Which bytes are read in which order: sequential chunks of files, scattered to destinations. Pure."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

CHUNK = 8 << 20
GAP = 64 << 10
# Chunks end at multiples of this in the file, so that no element of an aligned tensor is cut in two.
ALIGN = 64


class Request(NamedTuple):
    """`length` bytes at `offset` of source number `source` are wanted by destination number `dest`."""

    source: int
    offset: int
    length: int
    dest: int


class Part(NamedTuple):
    """`length` bytes of a chunk, from `slot_offset` in it to `dest_offset` of destination `dest`."""

    dest: int
    dest_offset: int
    slot_offset: int
    length: int


class Chunk(NamedTuple):
    """One read: `length` bytes at `offset` of a source, never more than the chunk size, and where they go."""

    source: int
    offset: int
    length: int
    parts: tuple[Part, ...]


class Plan(NamedTuple):
    """The chunks, and what follows from them. Of one set of requests, whoever makes it; nobody changes it.

    `cuts`: by destination the bytes of its pieces, in its order; the destinations are in the order of their first
    bytes. `number`: which of them begins at an offset of a destination.
    """

    chunks: Sequence[Chunk]
    cuts: Mapping[int, Sequence[int]]
    number: Mapping[tuple[int, int], int]


NOTHING = Plan((), {}, {})


@functools.lru_cache(maxsize=16)
def plan_of(requests: tuple[Request, ...], chunk: int) -> Plan:
    """`make_plan`, remembered: the same model is loaded again and again."""
    chunks = make_plan(requests, chunk=chunk)
    order = [part for one in chunks for part in one.parts]
    cuts: dict[int, list[int]] = {part.dest: [] for part in order}
    number: dict[tuple[int, int], int] = {}
    for part in sorted(order):
        number[part.dest, part.dest_offset] = len(cuts[part.dest])
        cuts[part.dest].append(part.length)
    return Plan(chunks, cuts, number)


def make_plan(requests: Sequence[Request], *, chunk: int = CHUNK, gap: int = GAP) -> Sequence[Chunk]:
    """Chunks by source and ascending offset; neighbours share one, a gap above `gap` bytes splits.

    Every requested byte is in exactly one part of its destination; requests may overlap. `chunk` is at
    least 64.
    """
    if chunk < ALIGN:
        raise ValueError(f"a chunk of {chunk} bytes is below {ALIGN}")
    chunks: list[Chunk] = []
    run: list[Request] = []
    end = 0
    for request in sorted((r for r in requests if r.length), key=lambda r: (r.source, r.offset, r.length)):
        if run and (request.source != run[0].source or request.offset > end + gap):
            chunks += _cut(run, end, chunk)
            run = []
        end = max(end, request.offset + request.length) if run else request.offset + request.length
        run.append(request)
    if run:
        chunks += _cut(run, end, chunk)
    return chunks


def _cut(run: list[Request], end: int, chunk: int) -> list[Chunk]:
    """The chunks of one run of requests (sorted by offset, gaps small), less the pieces nobody wants."""
    result: list[Chunk] = []
    active: list[Request] = []
    waiting = iter([*run, Request(run[0].source, end, 0, -1)])
    upcoming = next(waiting)
    start = run[0].offset
    while start < end:
        stop = min((start + chunk) // ALIGN * ALIGN, end) if start + chunk < end else end
        while upcoming.length and upcoming.offset < stop:
            active.append(upcoming)
            upcoming = next(waiting)
        wanted = [(r, max(r.offset, start), min(r.offset + r.length, stop)) for r in active]
        if wanted:
            first, last = min(w[1] for w in wanted), max(w[2] for w in wanted)
            parts = tuple(Part(r.dest, a - r.offset, a - first, b - a) for r, a, b in wanted)
            result.append(Chunk(run[0].source, first, last - first, parts))
        active = [r for r in active if r.offset + r.length > stop]
        start = stop if active else max(stop, upcoming.offset)
    return result
