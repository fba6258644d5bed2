"""A WebUI in a process of its own, with a data folder of its own, so that the checkout stays untouched."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import EXTENSION, ROOT
from bench.clock import Budget

from .host import Host

LAUNCHER = Path(__file__).with_name("launcher.py")
# Makes a Forge accept a Flux of any width and depth, for `--make tiny`.
SHRINK = ROOT / "tests" / "integration" / "probe" / "scripts" / "shrink.py"
START_S = 600.0


class Gone(Exception):
    """The WebUI ended, never came up, or its time is over: nothing more can be asked of it."""


@dataclass(frozen=True)
class Start:
    """How it is started. `card`: GiB, None for the card as it is; `others`: extensions that stand beside ours."""

    data: Path
    extension: bool
    flags: Sequence[str] = ()
    models: Path | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    card: float | None = None
    tiny: bool = False
    page: bool = False
    others: Sequence[Path] = ()


class Server:
    """Started on entering, ended on leaving."""

    def __init__(self, host: Host, start: Start, budget: Budget) -> None:
        self._host, self._start, self._budget = host, start, budget
        self._port = _free_port()
        self._log = start.data / "log.txt"
        self._process: subprocess.Popen[bytes] | None = None
        self.seconds = self.cpu_seconds = 0.0

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
        self.seconds, self.cpu_seconds = time.perf_counter() - began, _cpu_seconds(self._process.pid)
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

    def said(self, words: str) -> str:
        """The log, once it has these words: what is printed may follow the first answer."""
        end = time.monotonic() + min(60.0, self._budget.left())
        while words not in (text := self.log()) and time.monotonic() < end:
            time.sleep(0.05)
        return text

    def log_size(self) -> int:
        return self._log.stat().st_size

    def _prepare(self) -> None:
        data = self._start.data
        shutil.rmtree(data / "extensions", ignore_errors=True)
        (data / "extensions").mkdir(parents=True)
        ignored = shutil.ignore_patterns("__pycache__", ".git")
        for each in (*((EXTENSION,) if self._start.extension else ()), *self._start.others):
            shutil.copytree(each, data / "extensions" / each.name, ignore=ignored)
        if self._start.tiny:
            scripts = data / "extensions" / "000-tiny" / "scripts"
            scripts.mkdir(parents=True)
            shutil.copy(SHRINK, scripts)
        # Forge Neo takes any other file for one of an old version, and waits for a key.
        options = {"VERSION_UID": "PY313", **self._start.options}
        (data / "config.json").write_text(json.dumps(options), encoding="utf-8")

    def _command(self) -> list[str]:
        start = self._start
        flags = [*self._host.flags, "--api", *(() if start.page else ("--nowebui",)), *start.flags]
        if start.tiny:
            flags.append(self._host.tiny_flag)
        places = ["--data-dir", str(start.data)]
        if start.models is not None:
            places += [self._host.models_flag, str(start.models)]
        address = ["--server-name", "127.0.0.1", "--port", str(self._port)]
        return [str(self._host.python), str(LAUNCHER), *flags, *places, *address]

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
        if self._start.extension:
            environ["BENCH_INSTALLER"] = str(self._start.data / "extensions" / EXTENSION.name / "install.py")
        if self._start.tiny:
            environ["PROBE_TINY"] = "1"
        # A start that compiles thousands of files is nobody's start.
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        return environ

    def _wait_until_up(self) -> None:
        end = time.monotonic() + min(START_S, self._budget.left())
        while time.monotonic() < end:
            assert self._process is not None
            if self._process.poll() is not None:
                raise Gone(f"ended with {self._process.returncode} while it started: {self.log()[-2000:]}")
            try:
                self._open("/" if self._start.page else "/sdapi/v1/options", None).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise Gone(f"did not answer in time: {self.log()[-2000:]}")

    def _call(self, path: str, body: bytes | None) -> Any:
        with self._open(path, body) as answer:
            return json.load(answer)

    def _open(self, path: str, body: bytes | None) -> Any:
        left = self._budget.left()
        if left <= 0:
            raise Gone("the time is over")
        address = f"http://127.0.0.1:{self._port}{path}"
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        return urllib.request.urlopen(request, timeout=left)


def _cpu_seconds(process: int) -> float:
    """What a process and its children took so far; nan where psutil is missing."""
    try:
        import psutil
    except ImportError:
        return math.nan
    first = psutil.Process(process)
    times = [each.cpu_times() for each in (first, *first.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
