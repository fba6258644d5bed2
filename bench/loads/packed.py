"""Packed weights beside plain ones, in one process: loads, and steps of a model that streams."""

from __future__ import annotations

import mmap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.record import say
from flux_speedup.ram import cores
from flux_speedup.weights.files.mapping import Mapping
from flux_speedup.weights.files.pagecache import forget
from flux_speedup.weights.packed.choice import KINDS, Choice
from flux_speedup.weights.packed.packing import packing
from flux_speedup.weights.packed.room import Room
from flux_speedup.weights.packed.store import PACKED
from flux_speedup.weights.transfer.staging import Arena

from . import ours, streamed
from .timing import Timing


def measured(
    timing: Timing, folder: Path, arena: Arena, mapping: Mapping, *, cold: bool, pinned: float
) -> None:
    """All rows; at the end, of what is packed, the share of the plain one's seconds. `pinned`: a plain copy's."""
    _pack(timing, folder, mapping)
    PACKED.choice = Choice(kinds=KINDS | {timing.device.type})
    PACKED.choice.find(timing.device)
    found = PACKED.choice.decoder
    if not found.rate:
        say("packed weights: nothing decodes them here")
        return
    timing.record.row(name="packed: decoding", decoder=found.name, gb_per_s=round(found.rate / 1e9, 2))
    timing.record.row(name="packed: the bus", gb_per_s=round(PACKED.choice.bus / 1e9, 2))
    if timing.device.type != "cuda":
        say("no card: packed weights are read though decoding them does not pay here, to see that it runs")
        PACKED.choice.bus = 1.0
    plain = _rows(timing, "transformer, plain", arena, mapping, mapping, cold)
    PACKED.use(folder)
    file = PACKED.of(mapping.path, mapping.identity)
    if file is None:
        raise SystemExit("the packed file is not found")
    PACKED.warm = lambda path: path != mapping.path  # read in every way, whether it gains or not
    packed = _rows(timing, "transformer, packed", arena, mapping, file.mapping, cold)
    PACKED.use(None)
    if file.damaged:
        raise SystemExit("the packed file was given up")
    shares = {name: round(seconds / plain[name], 3) for name, seconds in packed.items() if name in plain}
    copies = {name: round(packed[name] / pinned, 3) for name in packed if name.startswith("warm load")}
    timing.record.about(packed_of_plain=shares, packed_of_plain_copy=copies)
    for name, share in shares.items():
        of_copy = f", {copies[name]} of a plain copy" if name in copies else ""
        say(f"packed: {name}: {share} of plain{of_copy}")


def _rows(
    timing: Timing, label: str, arena: Arena, mapping: Mapping, read: Mapping, cold: bool
) -> dict[str, float]:
    """Seconds by what they are of. `read`: the file that loads of `mapping` read."""
    found = {"warm load": ours.warm(timing, label, arena, mapping)}
    if timing.device.type == "cuda":
        seconds = ours.straight(timing, label, arena, mapping, read)
        found |= {"warm load, registered": seconds} if seconds else {}
    found |= streamed.measured(timing, label, mapping)
    if cold:
        found["cold load"] = _cold(timing, label, arena, mapping, read)
    return found


def _pack(timing: Timing, folder: Path, mapping: Mapping) -> None:
    with ThreadPoolExecutor(cores()) as pool:
        room = Room(folder, 1 << 50)
        seconds = timing.timed(lambda: list(packing(mapping.path, room, pool.map)))[0]
    share = round(room.taken() / mapping.identity.size, 4)
    timing.add("packed: making it, compared with the file", [seconds], mapping.identity.size, share=share)


def _cold(timing: Timing, label: str, arena: Arena, mapping: Mapping, read: Mapping) -> float:
    for each in (mapping, read):
        if hasattr(mmap, "MADV_DONTNEED"):
            each.buffer.madvise(mmap.MADV_DONTNEED)
        forget(each.path)
    module = ours.module_of(mapping)
    residency = ours.Residency(module, arena=arena)
    seconds = timing.timed(lambda: residency.load(timing.device))[0]
    size = ours.size_of(module)
    residency.unload()
    return timing.add(f"{label}: cold load", [seconds], size)
