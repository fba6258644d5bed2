"""Our loads: through the staging arena, straight from a registered file, and from the disk."""

from __future__ import annotations

import mmap
from functools import partial

from flux_speedup.weights.files.mapping import Mapping
from flux_speedup.weights.files.pagecache import forget, resident_fraction
from flux_speedup.weights.residency.digest import checksums
from flux_speedup.weights.residency.residency import Residency
from flux_speedup.weights.transfer.direct import Direct
from flux_speedup.weights.transfer.staging import Arena
from flux_speedup.weights.transfer.transfer import default_threads, transfer
from measure.output import say

from .models import check_bytes, module_of, size_of
from .plain import plain_read
from .rows import Bench


def warm(bench: Bench, label: str, arena: Arena, threads: int | None, *mappings: Mapping) -> None:
    """First load, loads, unloads, loads after the allocator gave its memory back, the digest by itself."""
    module = module_of(*mappings)
    size = size_of(module)
    residency = Residency(module, arena=arena, run=partial(transfer, arena=arena, threads=threads))
    for mapping in mappings:
        plain_read(mapping, default_threads(), arena.chunk)
    first, _ = bench.timed(lambda: residency.load(bench.device))
    bench.add(f"{label}: first load (makes the staging arena)", [first], size)
    bench.timed(residency.unload)
    loads, unloads, fresh, empties, digests = [], [], [], [], []
    for _ in range(bench.repeats):
        loads.append(bench.timed(lambda: residency.load(bench.device))[0])
        on_device = [parameter.detach() for parameter in module.parameters()]
        digests.append(bench.timed(lambda tensors=on_device: checksums(tensors))[0])
        del on_device
        seconds, report = bench.timed(residency.unload)
        unloads.append(seconds)
        if report.copied_back or report.bytes != size:
            raise SystemExit(
                f"{label}: unloaded {report.bytes} of {size} bytes, copied back {report.copied_back}"
            )
    for _ in range(bench.repeats):
        empties.append(bench.timed(bench.empty_cache)[0])
        fresh.append(bench.timed(lambda: residency.load(bench.device))[0])
        residency.unload()
    bench.add(f"{label}: warm load", loads, size)
    bench.add(f"{label}: warm load after empty_cache", fresh, size)
    bench.add(f"{label}: digest alone", digests, size)
    bench.add(f"{label}: unload", unloads, 0)
    bench.add(f"{label}: empty_cache", empties, 0)
    check_bytes(bench, residency, module, *mappings)
    bench.empty_cache()


def straight(bench: Bench, label: str, arena: Arena, mapping: Mapping) -> None:
    """Loads of a file that is registered, and what registering costs."""
    direct = Direct()
    seconds, held = bench.timed(lambda: direct.hold(mapping))
    if not held:
        say(f"{label}: could not be registered (no room, or not possible here)")
        return
    module = module_of(mapping)
    residency = Residency(module, arena=arena, direct=direct)
    loads = []
    for _ in range(bench.repeats):
        loads.append(bench.timed(lambda: residency.load(bench.device))[0])
        residency.unload()
    bench.add(f"{label}: warm load, direct", loads, size_of(module))
    check_bytes(bench, residency, module, mapping)
    bench.add(f"{label}: register", [seconds], mapping.identity.size)
    bench.add(f"{label}: unregister", [bench.timed(direct.release_all)[0]], mapping.identity.size)
    bench.empty_cache()


def cold(bench: Bench, label: str, arena: Arena, mapping: Mapping) -> None:
    """From the disk: the plain read, then the load, each after the page cache has let the file go."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapping.buffer.madvise(mmap.MADV_DONTNEED)  # the system keeps pages that are mapped somewhere
    path, threads = mapping.path, default_threads()
    module = module_of(mapping)
    residency = Residency(module, arena=arena)
    reads, loads = [], []
    for _ in range(2):
        forget(path)
        before = resident_fraction(path)
        reads.append(bench.timed(lambda: plain_read(mapping, threads, arena.chunk))[0])
        forget(path)
        loads.append(bench.timed(lambda: residency.load(bench.device))[0])
        residency.unload()
    more = {"in_page_cache_before": "unknown" if before is None else f"{before:.3f}"}
    bench.add(f"{label}: cold plain read, {threads} threads", reads, size_of(module), **more)
    bench.add(f"{label}: cold load", loads, size_of(module))
