"""What needs no GPU: the planner's reading against a plain one, re-pointing at unload. Ratios of one run.

    python bench/cpu_load.py [--folder /tmp/flux] [--gigabytes 1]

Bars: reading through the planner at least 0.9 of the same threads' plain read; re-pointing at most 1 ms a GB.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "extensions" / "flux-speedup"))

from flux_speedup.weights.errors import ReadError  # noqa: E402
from flux_speedup.weights.files.mapping import MAPPINGS, Mapping  # noqa: E402
from flux_speedup.weights.residency.residency import Residency  # noqa: E402
from flux_speedup.weights.transfer.lane import PlainLane  # noqa: E402
from flux_speedup.weights.transfer.plan import CHUNK  # noqa: E402
from flux_speedup.weights.transfer.staging import Arena  # noqa: E402
from flux_speedup.weights.transfer.transfer import default_threads, transfer  # noqa: E402

CARD = torch.device("cpu", 0)


class NowhereLane(PlainLane):
    """A card whose copies cost nothing, so that what remains is planning and reading."""

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        return


class KeepingLane(PlainLane):
    """A card that keeps its memory, so that freeing it is not counted."""

    def __init__(self, device: torch.device, kept: list[torch.Tensor]) -> None:
        super().__init__(device)
        self._kept = kept

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        tensor = super().empty(shape, dtype)
        self._kept.append(tensor)
        return tensor


def write(folder: Path, size: int) -> Path:
    """Blocks in the proportions of a Flux transformer: large matrices, and small vectors between them."""
    path = folder / f"cpu-load-{size}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    shapes: dict[str, list[int]] = {}
    total = block = 0
    while total < size:
        for name, shape in (
            ("qkv", [9216, 3072]),
            ("scale", [128]),
            ("mlp", [12288, 3072]),
            ("bias", [12288]),
        ):
            shapes[f"blocks.{block}.{name}"] = shape
            total += 2 * (shape[0] * shape[1] if len(shape) == 2 else shape[0])
        block += 1
    header, position = {}, 0
    for name, shape in shapes.items():
        length = 2 * (shape[0] * shape[1] if len(shape) == 2 else shape[0])
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [position, position + length]}
        position += length
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    if not path.exists() or path.stat().st_size != 8 + len(raw) + position:
        noise = os.urandom(1 << 24)
        with path.open("wb") as file:
            file.write(len(raw).to_bytes(8, "little") + raw)
            for start in range(0, position, len(noise)):
                file.write(noise[: min(len(noise), position - start)])
    return path


def plain_read(path: Path, threads: int) -> None:
    """The threads read the file in order, a chunk each, into a buffer of their own."""
    size = path.stat().st_size
    offsets: Iterator[int] = iter(range(0, size, CHUNK))
    lock = threading.Lock()
    descriptor = os.open(path, os.O_RDONLY)

    def read(buffer: memoryview) -> None:
        while True:
            with lock:
                offset = next(offsets, None)
            if offset is None:
                return
            done, wanted = 0, min(CHUNK, size - offset)
            while done < wanted:
                count = os.preadv(descriptor, [buffer[done:wanted]], offset + done)
                if count <= 0:
                    raise ReadError(path, "ended early", offset=offset + done)
                done += count

    workers = [threading.Thread(target=read, args=(memoryview(bytearray(CHUNK)),)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    os.close(descriptor)


def timed(what: Callable[[], object]) -> float:
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


def module_of(mapping: Mapping) -> torch.nn.Module:
    module = torch.nn.Module()
    for name, view in mapping.views().items():
        module.register_parameter(name.replace(".", "/"), torch.nn.Parameter(view, requires_grad=False))
    return module


def reading(mapping: Mapping, threads: int, repeats: int) -> dict[str, float]:
    """Both ways in turns, so that whatever else the machine does hits both."""
    module, arena = module_of(mapping), Arena()

    def through_planner() -> None:
        residency.load(CARD)

    def run(items: object, lane: object, *, arrived: object) -> list[torch.Tensor]:
        return transfer(items, NowhereLane(CARD), arena, threads=threads)  # type: ignore[arg-type]

    plain, planned = [], []
    for number in range(repeats + 1):
        residency = Residency(module, run=run, digests=False)
        plain.append(timed(lambda: plain_read(mapping.path, threads)))
        planned.append(timed(through_planner))
        residency.unload()
        if number == 0:
            plain.clear()
            planned.clear()  # the first makes the arena and fills the page cache
    size = mapping.identity.size / 1e9
    return {
        "plain_gb_per_s": size / min(plain),
        "planner_gb_per_s": size / min(planned),
        "ratio_best": min(plain) / min(planned),
        "ratio_median": statistics.median(plain) / statistics.median(planned),
    }


def repointing(mapping: Mapping, repeats: int) -> dict[str, float]:
    """Unload with the device memory kept by somebody else, and without reading it for a checksum."""
    module, kept = module_of(mapping), list[torch.Tensor]()
    residency = Residency(module, lanes=lambda device: KeepingLane(device, kept), digests=False)
    seconds = []
    for _ in range(repeats):
        residency.load(CARD)
        seconds.append(timed(residency.unload))
        kept.clear()
    size = mapping.identity.size / 1e9
    return {
        "best_ms_per_gb": 1e3 * min(seconds) / size,
        "median_ms_per_gb": 1e3 * statistics.median(seconds) / size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("/tmp/flux"))
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, default=None, metavar="FILE")
    options = parser.parse_args()
    mapping = MAPPINGS.open(write(options.folder, int(options.gigabytes * 1e9)))
    result = {
        "threads": options.threads,
        "bytes": mapping.identity.size,
        "tensors": len(mapping.header.tensors),
        "reading": reading(mapping, options.threads, options.repeats),
        "repointing": repointing(mapping, options.repeats),
    }
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
