"""ADetailer's list of models with no network and all six files there: with the redirect, and without it.

Files of the real sizes with random content; it needs the `adetailer` package. Bar: 0.1 s with the redirect.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Sized
from pathlib import Path

from bench.clock import timed
from bench.places import EXTENSION
from bench.record import Record

WORLD_BYTES = 146_355_704  # yolov8x-worldv2.pt, whose sha256 the catalog does not know


def options(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(given: argparse.Namespace, record: Record) -> int:
    with tempfile.TemporaryDirectory() as name:
        os.environ["HF_HOME"] = str(Path(name) / "hub")
        _measure(Path(name), record)
    return 0


def _measure(folder: Path, record: Record) -> None:
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
        _timed(record, label, lambda: adetailer.get_models(models))
        table.put_back()
    _timed(record, "without", lambda: adetailer.get_models(models))


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


def _timed(record: Record, label: str, call: Callable[[], Sized]) -> None:
    seconds, models = timed(call)
    record.row(name=label, seconds=round(seconds, 4), models=len(models))


def _refused(*_: object, **__: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "no network in this benchmark")
