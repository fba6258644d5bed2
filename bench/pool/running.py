"""The application with embedded WebUIs, what is asked of it, and the processes that it has."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from launcher import embedded
from launcher.environment import ROOT
from launcher.install import install

APPLICATION = ROOT / "deploy" / "ray"
V1 = "/flux-speedup/v1"
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
# The embedded WebUI's own transformer under four names and seeds, its other models shared.
_WRITE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tiny_flux import models
first = "Stable-diffusion/tiny-flux-a"
others = {name: kind for name, kind in models.FILES.items() if not name.startswith("Stable")}
models.FILES = {f"Stable-diffusion/tiny-flux-{x}": models.FILES[first] for x in "abcd"} | others
models.write_missing(sys.argv[2])
"""
Ask = tuple[str, int]
"""A checkpoint's file name and a seed."""


def write_models(python: Path) -> Path:
    """The folder with the tiny models, made where they are missing."""
    models = ROOT / ".cache" / f"pool-{embedded.MODELS.name}"
    subprocess.run([python, "-c", _WRITE, str(ROOT / "embedded_webui"), str(models)], check=True)
    return models


@contextmanager
def running(
    python: Path, models: Path, data: Path, replicas: int, by_model: bool, kept: int = 4
) -> Iterator[str]:
    """The application with embedded WebUIs, with the extension, that share `data`; its address.

    kept: checkpoints that each keeps beside the one in use.
    """
    (data / "extensions").mkdir(parents=True)
    install(data / "extensions")
    command = embedded.command(python, data, 0, ["--nowebui", "--models-dir", str(models)])
    sys.path.insert(0, str(APPLICATION))
    # Ray's workers import it by name; nobody is told of this run.
    own = {"PYTHONPATH": str(APPLICATION), "RAY_USAGE_STATS_ENABLED": "0"}
    os.environ |= {**own, "FLUX_SPEEDUP_CHECKPOINTS_KEPT": str(kept)}
    import ray
    from ray import serve

    import pool

    where = command.index("--port")
    del command[where : where + 2]  # each WebUI gets its own
    port = embedded.free_port()
    ray.init("local", num_cpus=8, include_dashboard=False, object_store_memory=200 << 20, **QUIET)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        where = {"webui": shlex.join(command), "port": free_ports(replicas)}
        serve.run(pool.app(pool.Arguments(**where, replicas=replicas, gpus=0, cpus=0, by_model=by_model)))
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


def free_ports(count: int) -> int:
    """The first of so many ports in a row, below those that the system gives away."""
    first = random.randrange(15_000, 30_000)
    taken = any(embedded.why_not_at(first + number) for number in range(count))
    return free_ports(count) if taken else first


def ask(url: str, path: str, body: object = None, timeout: float = 600.0) -> Any:
    """The JSON of an answer. Raises OSError."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return json.load(answer)


def picture(url: str, wanted: Ask, **more: Any) -> str:
    """What comes for a request that names its checkpoint as any client does."""
    override = {"sd_model_checkpoint": wanted[0]}
    body = {"prompt": "a lighthouse at dusk", "seed": wanted[1], "override_settings": override, **more}
    return picture_of(ask(url, "/sdapi/v1/txt2img", body))


def picture_of(answer: Any) -> str:
    """The sha256 of its image."""
    return hashlib.sha256(base64.b64decode(answer["images"][0])).hexdigest()


def processes(data: Path) -> dict[int, int]:
    """Pid: port of the WebUIs whose data are in that folder."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        if str(data) in words and str(embedded.LAUNCH) in words:
            found[int(place.name)] = int(words[words.index("--port") + 1])
    return found


def serving(data: Path) -> list[int]:
    """Pids of those that listen by now."""
    return [pid for pid, port in processes(data).items() if embedded.why_not_at(port)]


def kill_one(pid: int, whole: bool) -> None:
    """A WebUI; `whole`: not itself, but Ray's process that has it."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent if whole else pid, signal.SIGKILL)
