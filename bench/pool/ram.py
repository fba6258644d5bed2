"""RAM of many WebUIs that share one set of files."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from launcher.install import install
from launcher.server import Server

from .running import ask, picture, processes


def shared_files(python: Path, models: Path, data: Path, count: int, extended: bool) -> dict[str, Any]:
    """RAM of one process and of `count` (proportional set size), and of the files they share (page cache, once).

    Each has built the same checkpoint; none of it is on the device, whose stand-in is RAM as well.
    """
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(1 << 20)  # what is freed goes back to the system at once
    with ExitStack() as stack:
        first = 0
        for number in range(count):
            place = data / str(number)
            (place / "extensions").mkdir(parents=True)
            if extended:
                install(place / "extensions")
            server = stack.enter_context(Server(python, place, ["--nowebui", "--models-dir", str(models)]))
            picture(server.url, ("tiny-flux-a.safetensors", 1), steps=1)
            ask(server.url, "/sdapi/v1/unload-checkpoint", {})
            first = first or sum(map(_pss, processes(place)))
        together = sum(_pss(pid) for number in range(count) for pid in processes(data / str(number)))
    del os.environ["MALLOC_MMAP_THRESHOLD_"]
    used = [path for path in models.rglob("*.safetensors") if path.stem[-2:] not in ("-b", "-c", "-d", "ra")]
    return {
        "with_extension": extended,
        "processes": count,
        "pss_of_one": first,
        "pss_together": together,
        "of_so_many_times_one": round(together / (count * first), 3),
        "files_in_page_cache": sum(path.stat().st_size for path in used),
    }


def _pss(pid: int) -> int:
    """Bytes: what it has alone, and its share of what it has with others."""
    rows = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
    return next(int(row[1]) * 1024 for row in rows if row[0] == "Pss:")
