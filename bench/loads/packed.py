"""Packed weights beside plain ones, in one process: loads, and a step of a model that streams."""

from __future__ import annotations

import mmap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from bench.record import say
from flux_speedup.ram import cores
from flux_speedup.weights.files.mapping import MAPPINGS, Mapping
from flux_speedup.weights.files.pagecache import forget
from flux_speedup.weights.packed.choice import KINDS, Choice
from flux_speedup.weights.packed.packing import Packing
from flux_speedup.weights.packed.room import Room
from flux_speedup.weights.packed.store import PACKED
from flux_speedup.weights.streaming.origin import Origin
from flux_speedup.weights.streaming.ring import ring_bytes
from flux_speedup.weights.streaming.split import units_of
from flux_speedup.weights.streaming.stream import Stream
from flux_speedup.weights.streaming.timeline import timeline_for
from flux_speedup.weights.transfer.direct import Direct
from flux_speedup.weights.transfer.staging import Arena

from . import ours
from .timing import Timing

RING = 512 << 20


class _Layer(torch.nn.Module):
    """Has a weight and computes nothing: a step takes what bringing takes. `compare`: its bytes with the file's."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight, requires_grad=False)
        self.home = weight
        self.compare = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.compare and not torch.equal(_bits(self.weight), _bits(self.home.to(self.weight.device))):
            raise SystemExit("a weight streamed in with other bytes")
        return x


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().reshape(-1).view(torch.uint8)


def measured(timing: Timing, folder: Path, arena: Arena, mapping: Mapping, *, cold: bool) -> None:
    """All rows."""
    _pack(timing, folder, mapping)
    PACKED.choice = Choice(kinds=KINDS | {timing.device.type})
    PACKED.choice.find(timing.device)
    found = PACKED.choice.decoder
    if found is None:
        say("packed weights: nothing decodes them here")
        return
    timing.record.row(name="packed: decoding", decoder=found.name, gb_per_s=round(found.rate / 1e9, 2))
    timing.record.row(name="packed: the bus", gb_per_s=round(PACKED.choice.bus / 1e9, 2))
    if timing.device.type != "cuda":
        say("no card: packed weights are read though decoding them does not pay here, to see that it runs")
        PACKED.choice.bus = 1.0
    for label, on in (("plain", False), ("packed", True)):
        if on:
            PACKED.open(folder)
            file = PACKED.of(mapping.path, mapping.identity)
            if file is None:
                raise SystemExit("the packed file is not found")
        ours.warm(timing, f"transformer, {label}", arena, mapping)
        _streamed(timing, f"transformer, {label}", mapping)
        if cold:
            _cold(timing, f"transformer, {label}", arena, mapping, file.mapping if on else mapping)
    PACKED.close()


def _pack(timing: Timing, folder: Path, mapping: Mapping) -> None:
    with ThreadPoolExecutor(cores()) as pool:
        packing = Packing(mapping.path, Room(folder, 1 << 50), pool.map)

        def whole() -> None:
            while not packing.step():
                pass

        try:
            seconds = timing.timed(whole)[0]
        finally:
            packing.close()
    share = round(packing.size / mapping.identity.size, 4)
    timing.add("packed: making it, compared with the file", [seconds], mapping.identity.size, share=share)


def _cold(timing: Timing, label: str, arena: Arena, mapping: Mapping, read: Mapping) -> None:
    for each in (mapping, read):
        if hasattr(mmap, "MADV_DONTNEED"):
            each.buffer.madvise(mmap.MADV_DONTNEED)
        forget(each.path)
    module = ours.module_of(mapping)
    residency = ours.Residency(module, arena=arena)
    seconds = timing.timed(lambda: residency.load(timing.device))[0]
    timing.add(f"{label}: cold load", [seconds], ours.size_of(module))
    residency.unload()


def _streamed(timing: Timing, label: str, mapping: Mapping) -> None:
    """A step in which every layer comes through the ring and none computes; from registered pages where it can."""
    timeline = timeline_for(timing.device)
    if timeline is None:
        return
    model = torch.nn.Sequential(*(_Layer(view) for view in mapping.views().values()))
    units = units_of(model, lambda module: isinstance(module, _Layer), lambda tensor: tensor.nbytes)
    direct = Direct() if timing.device.type == "cuda" else None
    origin = Origin(timeline, MAPPINGS, direct)
    origin.choose([layer.weight for layer in units])
    largest, size = max(unit.bytes for unit in units.values()), sum(unit.bytes for unit in units.values())
    ring = ring_bytes(size, largest, RING)
    stream = Stream(units, timeline, origin.supply(), ring, pieces=origin.pieces)
    stream.set_streamed(units)
    x = torch.zeros(1, device=timing.device)
    for layer in units:
        layer.compare = True
    model(x)
    for layer in units:
        layer.compare = False
    model(x)
    seconds = [timing.timed(lambda: model(x))[0] for _ in range(timing.repeats)]
    timing.add(f"{label}: a step, all of it streamed", seconds, size, source=origin.words(units.values()))
    stream.close()
    origin.close()
    if direct is not None:
        direct.release_all()
    timing.empty_cache()
