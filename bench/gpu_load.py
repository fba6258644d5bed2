"""How fast FLUX.1-dev's weights reach a GPU: this extension, the machine's plain copies, other loaders.

One command on a machine with a GPU (seconds, GB = 10^9 bytes; ratios within one run are what travels):

    python bench/gpu_load.py --write /path/with/40GB --peers --json gpu.json

and small, without a GPU, to see that it runs:

    python bench/gpu_load.py --write /tmp/flux --scale 0.02 --device cpu
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import math
import mmap
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "extensions" / "flux-speedup"))

from flux_speedup.weights.digest import checksums  # noqa: E402
from flux_speedup.weights.direct import Direct  # noqa: E402
from flux_speedup.weights.lane import Lane, StreamLane, lane_for  # noqa: E402
from flux_speedup.weights.mapping import MAPPINGS, Mapping  # noqa: E402
from flux_speedup.weights.pagecache import forget, resident_fraction  # noqa: E402
from flux_speedup.weights.plan import Request, make_plan  # noqa: E402
from flux_speedup.weights.reader import FileSource  # noqa: E402
from flux_speedup.weights.residency import Residency  # noqa: E402
from flux_speedup.weights.staging import Arena  # noqa: E402
from flux_speedup.weights.transfer import default_threads, transfer  # noqa: E402

NAMES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
Row = dict[str, Any]


class Bench:
    """Collects rows, prints each as it comes, and knows how to wait for the device."""

    def __init__(self, device: torch.device, repeats: int) -> None:
        self.device = device
        self.repeats = repeats
        self.rows: list[Row] = []

    def sync(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def empty_cache(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def timed(self, what: Callable[[], Any]) -> tuple[float, Any]:
        self.sync()
        start = time.perf_counter()
        result = what()
        self.sync()
        return time.perf_counter() - start, result

    def add(self, name: str, seconds: list[float], size: int, **more: Any) -> float:
        best = min(seconds)
        row: Row = {
            "name": name,
            "best_s": best,
            "median_s": statistics.median(seconds),
            "runs": len(seconds),
        }
        if size:
            row |= {"bytes": size, "gb_per_s": size / best / 1e9}
        row |= more
        self.rows.append(row)
        speed = f"{row['gb_per_s']:8.2f} GB/s" if size else " " * 13
        extra = "  ".join(f"{key} {value}" for key, value in more.items())
        print(f"{name:58s} best {best:9.4f} s  median {row['median_s']:9.4f} s {speed}  {extra}", flush=True)
        return best


def write_files(
    folder: Path, tensors: dict[str, Any], scale: float, components: list[str]
) -> dict[str, Path]:
    """A safetensors file a component, random normal weights; one there in the right size is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for component in components:
        spec = tensors[component]
        dtype = getattr(torch, spec["dtype"])
        shapes = {name: scaled(shape, scale) for name, shape in spec["tensors"].items()}
        paths[component] = folder / f"bench-{component}-{scale:g}.safetensors"
        start = time.perf_counter()
        size = write_file(paths[component], shapes, dtype)
        took = time.perf_counter() - start
        print(f"{paths[component]}: {size / 1e9:.2f} GB, {len(shapes)} tensors, {took:.1f} s", flush=True)
    return paths


def scaled(shape: list[int], scale: float) -> list[int]:
    if len(shape) < 2 or scale == 1.0:
        return list(shape)
    return [max(1, round(shape[0] * scale)), *shape[1:]]


def write_file(path: Path, shapes: dict[str, list[int]], dtype: torch.dtype) -> int:
    content: dict[str, Any] = {}
    position = 0
    for name, shape in shapes.items():
        length = math.prod(shape) * dtype.itemsize
        offsets = [position, position + length]
        content[name] = {"dtype": NAMES[str(dtype)[6:]], "shape": shape, "data_offsets": offsets}
        position += length
    header = json.dumps(content).encode()
    header += b" " * (-len(header) % 8)
    total = 8 + len(header) + position
    if path.exists() and path.stat().st_size == total:
        return total
    # So small that what a model computes with them stays finite.
    pool = torch.randn(1 << 24).mul_(0.02).to(dtype).view(torch.uint8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for number, entry in enumerate(content.values()):
            begin, end = entry["data_offsets"]
            start = number * 7919 * dtype.itemsize % (pool.numel() // 2)
            while begin < end:
                piece = pool[start : start + min(end - begin, pool.numel() - start)]
                file.write(memoryview(piece.numpy()))
                begin += piece.numel()
                start = 0
        file.flush()
        os.fsync(file.fileno())
    return total


def module_of(*mappings: Mapping) -> torch.nn.Module:
    """A module whose parameters are the views of whole files, as a WebUI's built model has them."""
    module = torch.nn.Module()
    for number, mapping in enumerate(mappings):
        for name, view in mapping.views().items():
            module.register_parameter(
                f"{number}/{name}".replace(".", "/"), torch.nn.Parameter(view, requires_grad=False)
            )
    return module


def size_of(module: torch.nn.Module) -> int:
    return sum(parameter.nbytes for parameter in module.parameters())


def pinned_copy(bench: Bench, size: int) -> float:
    """The floor: the same number of bytes from one pinned block that is in RAM already."""
    pinned = bench.device.type == "cuda"
    block = torch.empty(min(size, 1 << 30), dtype=torch.uint8, pin_memory=pinned)
    block.fill_(1)
    target: torch.Tensor = torch.empty(size, dtype=torch.uint8, device=bench.device)

    pieces: tuple[torch.Tensor, ...] = target.split(block.numel())

    def copy() -> None:
        for piece in pieces:
            piece.copy_(block[: piece.numel()], non_blocking=True)

    copy()
    seconds = [bench.timed(copy)[0] for _ in range(bench.repeats)]
    pieces, target = (), block
    bench.empty_cache()
    return bench.add(
        "plain pinned copy, host to device" if pinned else "plain copy, RAM to RAM", seconds, size
    )


def plain_read(mapping: Mapping, threads: int, chunk: int) -> None:
    """The same chunks by the same number of threads, into buffers that nobody looks at."""
    source = FileSource(mapping.path, mapping.identity)
    entries = enumerate(mapping.header.tensors.values())
    requests = [Request(0, entry.offset, entry.length, number) for number, entry in entries]
    chunks = iter(make_plan(requests, chunk=chunk))
    lock = threading.Lock()

    def read() -> None:
        buffer = memoryview(bytearray(chunk))
        while True:
            with lock:
                piece = next(chunks, None)
            if piece is None:
                return
            source.read_into(piece.offset, buffer[: piece.length])

    workers = [threading.Thread(target=read) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    source.close()


def check_bytes(bench: Bench, residency: Residency, module: torch.nn.Module, *mappings: Mapping) -> None:
    """Every byte on the device against the file."""
    residency.load(bench.device)
    for number, mapping in enumerate(mappings):
        for name, view in mapping.views().items():
            there = module.get_parameter(f"{number}/{name}".replace(".", "/")).detach()
            here = view.to(bench.device)
            if not torch.equal(there.reshape(-1).view(torch.uint8), here.reshape(-1).view(torch.uint8)):
                raise SystemExit(f"{mapping.path}: tensor {name} arrived with other bytes")
    residency.unload()
    print(f"bytes checked: {', '.join(str(mapping.path.name) for mapping in mappings)}", flush=True)


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
        print(f"{label}: could not be registered (no room, or not possible here)", flush=True)
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


def sweep(bench: Bench, mapping: Mapping) -> None:
    """Threads x chunk size, events that spin and events that sleep."""
    module = module_of(mapping)
    for chunk in (4, 8, 16):
        arena = Arena(chunk=chunk << 20)
        for threads in (8, 12, 16):
            for blocking in (False, True) if bench.device.type == "cuda" else (False,):

                def lanes(device: torch.device, blocking: bool = blocking) -> Lane:
                    return StreamLane(device, blocking=True) if blocking else lane_for(device)

                run = partial(transfer, arena=arena, threads=threads)
                residency = Residency(module, arena=arena, lanes=lanes, run=run)
                seconds = []
                for _ in range(3):
                    seconds.append(bench.timed(lambda r=residency: r.load(bench.device))[0])
                    residency.unload()
                kind = "sleeping" if blocking else "spinning"
                bench.add(f"sweep: {threads} threads, {chunk} MiB, {kind} events", seconds, size_of(module))
        arena.release()


def peer_loaders(device: torch.device) -> dict[str, Callable[[Path], Any]]:
    """Other loaders that are installed, each as a function from a file to tensors on the device."""
    kind = device.type if device.index is None else f"{device.type}:{device.index}"
    found: dict[str, Callable[[Path], Any]] = {}
    if importlib.util.find_spec("safetensors"):
        from safetensors.torch import load_file

        found["safetensors load_file"] = lambda path: load_file(str(path), device=kind)
    if importlib.util.find_spec("runai_model_streamer"):
        from runai_model_streamer import SafetensorsStreamer

        def runai(path: Path) -> Any:
            with SafetensorsStreamer() as streamer:
                streamer.stream_file(str(path))
                return {name: tensor.to(device) for name, tensor in streamer.get_tensors()}

        found["runai_model_streamer"] = runai
    if importlib.util.find_spec("fastsafetensors"):
        from fastsafetensors import fastsafe_open

        def fast(path: Path) -> Any:
            with fastsafe_open(filenames=[str(path)], nogds=True, device=kind) as file:
                return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118

        found["fastsafetensors"] = fast
    if importlib.util.find_spec("instanttensor"):
        import instanttensor

        def instant(path: Path) -> Any:
            with instanttensor.safe_open(str(path), framework="pt", device=device) as file:
                return dict(file.tensors())

        found["instanttensor"] = instant
    return found


def peers(bench: Bench, mapping: Mapping) -> None:
    size = sum(entry.length for entry in mapping.header.tensors.values())
    for name, load in peer_loaders(bench.device).items():
        seconds = []
        try:
            for _ in range(3):
                took, result = bench.timed(lambda load=load: load(mapping.path))
                seconds.append(took)
                del result
                gc.collect()
        except Exception as error:  # another project's loader: say so and go on
            print(f"peer {name}: failed ({type(error).__name__}: {error})", flush=True)
        if seconds:
            bench.add(f"peer {name}", seconds, size)
        bench.empty_cache()


def forge_loop(options: argparse.Namespace, tensors: dict[str, Any], paths: dict[str, Path]) -> Any:
    """Forge's own loading and moving beside ours (forge_loop.py), with the files of this run or tiny ones."""
    program = Path(__file__).with_name("forge_loop.py")
    json_file = options.write / "forge-loop.json"
    command = [sys.executable, str(program), "--forge", str(options.forge), "--json", str(json_file)]
    if options.scale == 1.0:
        command += [text for part in ("flux", "t5", "clip", "ae") for text in (f"--{part}", str(paths[part]))]
        second = options.write / "bench-flux-second-1.safetensors"
        if second.exists() or shutil.disk_usage(options.write).free > 1.25 * paths["flux"].stat().st_size:
            write_file(second, tensors["flux"]["tensors"], torch.bfloat16)
            command += ["--second", str(second)]
    else:
        command += ["--tiny", str(options.write / "tiny")]
    json_file.unlink(missing_ok=True)
    subprocess.run([*command, *shlex.split(options.forge_options)], check=False)
    return json.loads(json_file.read_text(encoding="utf-8")) if json_file.exists() else None


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--write",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for the files; those there are used again",
    )
    add("--tensors", type=Path, default=ROOT.parent / "shared" / "data" / "flux_tensors.json")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--scale", type=float, default=1.0, help="scales the first dimension of every matrix")
    add("--components", nargs="+", default=["flux", "t5", "clip"])
    add("--repeats", type=int, default=5)
    add("--threads", type=int, default=None, help="reader threads (default: as the product chooses)")
    add("--peers", action="store_true", help="time other loaders that are installed")
    add("--sweep", action="store_true", help="threads x chunk sizes")
    add("--forge", type=Path, default=None, metavar="DIR", help="time Forge's own path, its backend/ in DIR")
    add("--forge-options", default="", help="further options of forge_loop.py, in one word")
    add("--forge-only", action="store_true", help="write the files and time Forge's own path, nothing else")
    add("--no-cold", action="store_true", help="leave out the loads from the disk")
    add("--json", type=Path, default=None, metavar="FILE")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    beside = ROOT / "shared" / "data" / "flux_tensors.json"
    tensors = json.loads(
        (options.tensors if options.tensors.exists() else beside).read_text(encoding="utf-8")
    )
    device = torch.device(options.device)
    simulated = device.type == "cpu"
    device = torch.device("cpu", 0) if simulated else torch.device(device.type, device.index or 0)
    bench = Bench(device, options.repeats)
    machine = {
        "device": "RAM standing for a card" if simulated else torch.cuda.get_device_name(device),
        "threads": options.threads or default_threads(),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "scale": options.scale,
    }
    print(machine, flush=True)
    components = options.components
    if options.forge:
        components = list(dict.fromkeys([*components, "flux", "t5", "clip", "ae"]))
    paths = write_files(options.write, tensors, options.scale, components)
    rows: dict[str, Any] = {"machine": machine}
    if not options.forge_only:
        rows |= our_rows(options, bench, {name: paths[name] for name in options.components})
        save(options, rows)
    if options.forge:
        bench.empty_cache()
        rows["forge"] = forge_loop(options, tensors, paths)
        save(options, rows)


def our_rows(options: argparse.Namespace, bench: Bench, paths: dict[str, Path]) -> dict[str, Any]:
    """The machine's plain copies, our loads, and other loaders."""
    mappings = {name: MAPPINGS.open(path) for name, path in paths.items()}
    arena = Arena()
    main_file = mappings[options.components[0]]
    floor = pinned_copy(bench, sum(entry.length for entry in main_file.header.tensors.values()))
    warm(bench, options.components[0], arena, options.threads, main_file)
    load = next(row["best_s"] for row in bench.rows if row["name"].endswith(": warm load"))
    print(f"warm load / plain copy: {load / floor:.3f}", flush=True)
    if bench.device.type == "cuda":
        straight(bench, options.components[0], arena, main_file)
    if {"t5", "clip"} <= mappings.keys():
        warm(bench, "t5 + clip", arena, options.threads, mappings["t5"], mappings["clip"])
    if options.sweep:
        sweep(bench, main_file)
    if options.peers:
        peers(bench, main_file)
    if not options.no_cold:
        cold(bench, options.components[0], arena, main_file)
    return {"warm_over_plain": load / floor, "rows": bench.rows}


def save(options: argparse.Namespace, rows: dict[str, Any]) -> None:
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
