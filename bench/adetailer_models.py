"""ADetailer's list of models with no network and all six files there: with the redirect, and without it.

Files of the real sizes with random content. Run in the environment that ./test makes:
.venv/adetailer/bin/python bench/adetailer_models.py
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
EXTENSION = REPOSITORY / "extensions" / "flux-speedup"
WORLD_BYTES = 146_355_704  # yolov8x-worldv2.pt, whose sha256 the catalog does not know


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HF_HOME"] = str(folder / "hub")
        sys.path[:0] = [str(EXTENSION), str(REPOSITORY)]
        return _measure(folder)


def _measure(folder: Path) -> int:
    import torch

    # PyPI's torchvision has operators for CUDA alone; its import asks for these two.
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import adetailer

    from flux_speedup.configuration.config import Source
    from flux_speedup.hosts.common import local_weights
    from flux_speedup.local_models.redirect import made
    from flux_speedup.patching.table import PatchTable

    socket.getaddrinfo = _refused  # type: ignore[assignment]
    logging.disable(logging.WARNING)
    models = folder / "adetailer"
    sources = [Source("bench", {"catalog": {"weights": _files(models)}})]
    for label in ("with, sha256 computed", "with, later starts"):
        found = made(sources, lambda _: [models], folder / "digests.json")
        table = PatchTable(logging.getLogger("bench"))
        table.add("redirect", "", "", local_weights.adetailer_changes(lambda found=found: found))
        _timed(label, lambda: adetailer.get_models(models))
        table.put_back()
    _timed("without", lambda: adetailer.get_models(models))
    return 0


def _files(folder: Path) -> list[dict[str, object]]:
    folder.mkdir()
    shipped = json.loads((EXTENSION / "config.json").read_text(encoding="utf-8"))["catalog"]["weights"]
    rows = [row for row in shipped if row["kind"] == "adetailer"]
    for row in rows:
        content = b"PK\x03\x04" + os.urandom(row.get("bytes", WORLD_BYTES) - 4)
        (folder / row["file"]).write_bytes(content)
        if "sha256" in row:
            row["sha256"] = hashlib.sha256(content).hexdigest()
    return rows


def _timed(label: str, call: object) -> None:
    start = time.perf_counter()
    count = len(call())  # type: ignore[operator]
    print(f"{label:<24}{time.perf_counter() - start:9.3f} s  {count} models")


def _refused(*_: object, **__: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "no network in this benchmark")


if __name__ == "__main__":
    sys.exit(main())
