"""A WebUI in a process of its own, with a data folder of its own, so that the checkout stays untouched."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.clock import Budget
from bench.places import EXTENSION, ROOT

LAUNCHER = Path(__file__).with_name("card.py")
# Makes a Forge accept a Flux of any width and depth, for `--make tiny`.
SHRINK = ROOT / "tests" / "integration" / "probe" / "scripts" / "shrink.py"
FLAGS = (
    "--nowebui",
    "--api",
    "--skip-prepare-environment",
    "--skip-install",
    "--skip-torch-cuda-test",
    "--no-download-sd-model",
)
CPU_FLAGS = ("--always-cpu", "--unet-in-bf16")
START_S = 240.0


class Gone(Exception):
    """The WebUI ended, never came up, or its time is over: nothing more can be asked of it."""


@dataclass(frozen=True)
class Host:
    """A checkout, the Python it runs with, and whether that Python's PyTorch sees a GPU."""

    checkout: Path
    python: Path
    gpu: bool


@dataclass(frozen=True)
class Start:
    """How it is started. `card` is in GiB, None for the card as it is."""

    data: Path
    models: Path
    options: Mapping[str, object]
    extension: bool
    flags: Sequence[str]
    card: float | None
    tiny: bool


class Server:
    """Started on entering, ended on leaving."""

    def __init__(self, host: Host, start: Start, budget: Budget) -> None:
        self._host, self._start, self._budget = host, start, budget
        self._port = _free_port()
        self._log = start.data / "log.txt"
        self._process: subprocess.Popen[bytes] | None = None
        self.seconds = 0.0

    def __enter__(self) -> Server:
        self._prepare()
        began = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self._host.checkout,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self._environ(),
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.__exit__()
            raise
        self.seconds = time.perf_counter() - began
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(60)

    def get(self, path: str) -> Any:
        return self._call(path, None)

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        return self._call(path, json.dumps(body).encode())

    def log(self, since: int = 0) -> str:
        with self._log.open("rb") as file:
            file.seek(since)
            return file.read().decode(errors="replace")

    def log_size(self) -> int:
        return self._log.stat().st_size

    def _prepare(self) -> None:
        data = self._start.data
        shutil.rmtree(data / "extensions", ignore_errors=True)
        (data / "extensions").mkdir(parents=True)
        if self._start.extension:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(EXTENSION, data / "extensions" / "flux-speedup", ignore=ignored)
        if self._start.tiny:
            scripts = data / "extensions" / "000-tiny" / "scripts"
            scripts.mkdir(parents=True)
            shutil.copy(SHRINK, scripts)
        (data / "config.json").write_text(json.dumps(dict(self._start.options)), encoding="utf-8")

    def _command(self) -> list[str]:
        start = self._start
        places = ["--data-dir", str(start.data), "--models-dir", str(start.models)]
        address = ["--server-name", "127.0.0.1", "--port", str(self._port)]
        program = "launch.py" if start.card is None else str(LAUNCHER)
        flags = [*FLAGS, *(() if self._host.gpu else CPU_FLAGS), *start.flags]
        return [str(self._host.python), program, *flags, *places, *address]

    def _environ(self) -> dict[str, str]:
        environ = {
            **os.environ,
            "GRADIO_ANALYTICS_ENABLED": "False",
            "HF_HUB_OFFLINE": "1",
            "PYTHONUNBUFFERED": "1",
            "SD_WEBUI_RESTARTING": "1",  # opens no browser
        }
        if self._start.card is not None:
            environ["BENCH_CARD_GIB"] = str(self._start.card)
        if self._start.tiny:
            environ["PROBE_TINY"] = "1"
        return environ

    def _wait_until_up(self) -> None:
        end = time.monotonic() + min(START_S, self._budget.left())
        while time.monotonic() < end:
            assert self._process is not None
            if self._process.poll() is not None:
                raise Gone(f"ended with {self._process.returncode} while it started: {self.log()[-2000:]}")
            try:
                self.get("/sdapi/v1/options")
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
            else:
                return
        raise Gone(f"did not answer in time: {self.log()[-2000:]}")

    def _call(self, path: str, body: bytes | None) -> Any:
        left = self._budget.left()
        if left <= 0:
            raise Gone("the time is over")
        address = f"http://127.0.0.1:{self._port}{path}"
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=left) as answer:
            return json.load(answer)


def host_at(checkout: Path) -> tuple[Host, dict[str, Any]]:
    """The checkout with its own Python (else the one that runs this), and what that Python says of the machine."""
    venv = checkout / "venv"
    python = next(
        (p for p in (venv / "bin" / "python", venv / "Scripts" / "python.exe") if p.exists()),
        Path(sys.executable),
    )
    done = subprocess.run([str(python), "-c", ABOUT], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{python} has no usable PyTorch: {done.stderr[-500:]}")
    about: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return Host(checkout.absolute(), python, about["gpu"] is not None), about


ABOUT = """
import json, platform, torch
from importlib.metadata import version, PackageNotFoundError
def of(name):
    try: return version(name)
    except PackageNotFoundError: return None
gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
total = torch.cuda.mem_get_info()[1] if gpu else None
names = ("safetensors", "transformers", "diffusers", "gradio")
print(json.dumps({"gpu": gpu, "vram_gib": total and round(total / 2**30, 1), "python": platform.python_version(),
                  "torch": torch.__version__, **{name: of(name) for name in names}}))
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
