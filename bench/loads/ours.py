"""Our loads: through the staging arena, straight from a registered file, and from the disk."""

from __future__ import annotations

import mmap

import torch

from bench.record import say
from flux_speedup.weights.files.mapping import Mapping
from flux_speedup.weights.files.pagecache import forget, resident_fraction
from flux_speedup.weights.residency.residency import Residency
from flux_speedup.weights.residency.signature import Signature
from flux_speedup.weights.transfer.direct import Direct
from flux_speedup.weights.transfer.staging import Arena
from flux_speedup.weights.transfer.transfer import default_threads

from .plain import planned_read
from .timing import Timing
from .watched import Watch


def module_of(*mappings: Mapping) -> torch.nn.Module:
    """A module whose parameters are the views of whole files, as a WebUI's built model has them."""
    module = torch.nn.Module()
    for number, mapping in enumerate(mappings):
        for name, view in mapping.views().items():
            parameter = torch.nn.Parameter(view, requires_grad=False)
            module.register_parameter(_named(number, name), parameter)
    return module


def size_of(module: torch.nn.Module) -> int:
    return sum(parameter.nbytes for parameter in module.parameters())


def warm(timing: Timing, label: str, arena: Arena, *mappings: Mapping) -> float:
    """First load, loads, unloads, the digest by itself; the best load's seconds."""
    module = module_of(*mappings)
    size = size_of(module)
    watch = Watch(timing)
    residency = Residency(module, arena=arena, lanes=watch.lane)
    for mapping in mappings:
        planned_read(mapping, default_threads(), arena.chunk)
    timing.add(
        f"{label}: first load in a process", [timing.timed(lambda: residency.load(timing.device))[0]], size
    )
    residency.unload()
    unloads, digests = [], []
    for _ in range(timing.repeats):
        watch.load(residency)
        on_device = {number: parameter.detach() for number, parameter in enumerate(module.parameters())}
        signature = Signature([tensor.nbytes for tensor in on_device.values()], timing.device)
        digests.append(timing.timed(lambda s=signature, tensors=on_device: s.changed(tensors))[0])
        del on_device, signature
        seconds, report = timing.timed(residency.unload)
        unloads.append(seconds)
        if report.copied_back or report.bytes != size:
            raise SystemExit(
                f"{label}: unloaded {report.bytes} of {size} bytes, copied back {report.copied_back}"
            )
    best = timing.add(f"{label}: warm load", watch.seconds, size, **watch.stages())
    timing.add(f"{label}: unload", unloads)
    timing.add(f"{label}: checksums alone", digests, size)
    _check_bytes(timing, residency, module, mappings)
    timing.empty_cache()
    return best


def straight(
    timing: Timing, label: str, arena: Arena, mapping: Mapping, read: Mapping | None = None
) -> float:
    """Loads of a file that is registered, and what registering costs; the best load's seconds, 0 for none.

    `read`: what is read in the file's place.
    """
    direct = Direct()
    read = read or mapping
    seconds, held = timing.timed(lambda: direct.hold(read))
    if not held:
        say(f"{label}: could not be registered (no room, or not possible here)")
        return 0.0
    module = module_of(mapping)
    watch = Watch(timing)
    residency = Residency(module, arena=arena, direct=direct, lanes=watch.lane)
    for _ in range(timing.repeats):
        watch.load(residency)
        residency.unload()
    stages = watch.stages()
    best = timing.add(f"{label}: warm load, registered", watch.seconds, size_of(module), **stages)
    _check_bytes(timing, residency, module, (mapping,))
    timing.add(f"{label}: registering", [seconds], read.identity.size)
    timing.add(f"{label}: letting go", [timing.timed(direct.release_all)[0]], read.identity.size)
    timing.empty_cache()
    return best


def cold(timing: Timing, label: str, arena: Arena, mapping: Mapping) -> None:
    """From the disk: the plain read, then the load, each after the page cache has let the file go."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapping.buffer.madvise(mmap.MADV_DONTNEED)  # the system keeps pages that are mapped somewhere
    module = module_of(mapping)
    residency = Residency(module, arena=arena)
    forget(mapping.path)
    left = resident_fraction(mapping.path)
    reads = [timing.timed(lambda: planned_read(mapping, default_threads(), arena.chunk))[0]]
    forget(mapping.path)
    loads = [timing.timed(lambda: residency.load(timing.device))[0]]
    residency.unload()
    timing.add(f"{label}: cold plain read", reads, size_of(module), in_page_cache_before=left)
    timing.add(f"{label}: cold load", loads, size_of(module))


def _named(number: int, name: str) -> str:
    return f"{number}/{name}".replace(".", "/")


def _check_bytes(
    timing: Timing, residency: Residency, module: torch.nn.Module, mappings: tuple[Mapping, ...]
) -> None:
    """Every byte on the device against the file."""
    residency.load(timing.device)
    for number, mapping in enumerate(mappings):
        for name, view in mapping.views().items():
            there = module.get_parameter(_named(number, name)).detach()
            here = view.to(timing.device)
            if not torch.equal(there.reshape(-1).view(torch.uint8), here.reshape(-1).view(torch.uint8)):
                raise SystemExit(f"{mapping.path}: tensor {name} arrived with other bytes")
    residency.unload()
