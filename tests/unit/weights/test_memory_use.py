"""Loading and unloading a large file leaves no second copy of it in RAM."""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

import pytest
import torch

from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.residency.residency import Residency
from flux_speedup.weights.transfer.staging import Arena
from flux_speedup.weights.transfer.transfer import transfer
from tests.unit.weights.weight_files import CARD, file_bytes, file_opener, module_of

MB = 1 << 20
# Above 32 MiB each, so that the C library maps and unmaps every one and keeps none of them for later.
ROWS, COLUMNS, COUNT = 9000, 2048, 8


def anonymous() -> int:
    """Bytes of this process's memory that no file stands behind."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


def large_file(path: Path) -> Path:
    length = ROWS * COLUMNS * 2
    content = {
        f"w{n}": {"dtype": "BF16", "shape": [ROWS, COLUMNS], "data_offsets": [n * length, (n + 1) * length]}
        for n in range(COUNT)
    }
    raw = json.dumps(content).encode()
    noise = os.urandom(length // 2)
    with path.open("wb") as file:
        file.write(file_bytes(raw))
        for _ in range(COUNT):
            file.write(noise)
            file.write(noise[::-1])
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_twice_there_and_back_costs_the_staging_and_little_else(tmp_path: Path) -> None:
    path = large_file(tmp_path / "a.safetensors")
    size = path.stat().st_size
    assert size > 256 * MB
    registry, arena = Registry(), Arena(limit=64 * MB)
    module = module_of(registry.open(path).views())

    def run(items: object, lane: object, **more: object) -> list[torch.Tensor]:
        opener = file_opener(registry)
        return transfer(items, lane, arena, opener=opener, **more)  # type: ignore[arg-type]

    residency = Residency(module, registry=registry, run=run)
    gc.collect()
    before = anonymous()
    for _ in range(2):
        residency.load(CARD)
        on_card = sum(parameter.nbytes for parameter in module.parameters())
        assert anonymous() - before - on_card <= arena.bytes + 64 * MB
        assert residency.unload().copied_back == ()
        gc.collect()
        assert anonymous() - before <= arena.bytes + 64 * MB
    arena.release()
    gc.collect()
    assert anonymous() - before <= 64 * MB
    path.unlink()
