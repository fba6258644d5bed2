"""A real Forge in a process of its own, with a data folder of its own, so that the checkout stays untouched."""

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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
EXTENSION = REPOSITORY / "extensions" / "flux-speedup"
PROBE = Path(__file__).resolve().parent / "probe"
BASE_FLAGS = (
    "--always-cpu",
    "--skip-torch-cuda-test",
    "--skip-prepare-environment",
    "--no-download-sd-model",
)
START_S = 600.0
BITSANDBYTES = REPOSITORY / ".cache" / "bitsandbytes"
"""Where ./test puts bitsandbytes, which not every Forge's environment has."""


class Forge:
    """Starts on entering, ends on leaving. `url` is its address, `log()` what it printed.

    base_flags: a start on the CPU of this WebUI. health: what it answers when it is up. folder: where launch.py
    is, below the checkout. probe: the test extension that goes with ours.
    """

    base_flags = BASE_FLAGS
    health = "/probe/state"
    folder = "."
    probe: Path | None = PROBE

    def __init__(
        self,
        checkout: Path,
        data: Path,
        *,
        flags: Sequence[str] = ("--nowebui", "--api"),
        extensions: dict[str, Path] | None = None,
        options: dict[str, Any] | None = None,
        environ: dict[str, str] | None = None,
    ) -> None:
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.data = data
        self._checkout = checkout
        self._flags = [
            *self.base_flags,
            "--server-name",
            "127.0.0.1",
            "--port",
            str(port),
            "--data-dir",
            str(data),
            *flags,
        ]
        self._environ = {
            **os.environ,
            "GRADIO_ANALYTICS_ENABLED": "False",
            "SD_WEBUI_RESTARTING": "1",
            "PYTHONFAULTHANDLER": "1",
            **(environ or {}),
        }
        self._log = data / "log.txt"
        self._process: subprocess.Popen[bytes] | None = None
        copied = {"flux-speedup": EXTENSION} if extensions is None else extensions
        probes = {} if self.probe is None else {"000-probe": self.probe}
        for name, source in {**probes, **copied}.items():
            ignored = shutil.ignore_patterns(".git", ".venv", ".cache", "artifacts", "tests", ".*_cache")
            shutil.copytree(source, data / "extensions" / name, ignore=ignored)
        data.mkdir(parents=True, exist_ok=True)
        (data / "config.json").write_text(json.dumps(self.options(options or {})))

    def __enter__(self) -> Forge:
        python = python_of(self._checkout) or Path(sys.executable)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(python), "launch.py", *self._flags],
                cwd=self._checkout / self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self._environ,
            )
        try:
            self.wait_until_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)

    def options(self, given: dict[str, Any]) -> dict[str, Any]:
        """What config.json has before the first start."""
        return given

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def our_lines(self) -> list[str]:
        """What the extension said."""
        return [line for line in self.log().splitlines() if line.startswith("[flux-speedup]")]

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def text(self, path: str) -> str:
        """What is no JSON."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return str(answer.read().decode())

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            self.url + path, json.dumps(body or {}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    def state(self) -> Any:
        """What the probe sees of the memory manager and the options."""
        return self.get("/probe/state")

    def reload_ui(self) -> None:
        """ "Reload UI", as its button does it, until the new page answers."""
        starts = self.log().count("Startup time")
        self.post("/probe/reload-ui")
        self.wait_until_up(starts + 1)

    def wait_until_up(self, starts: int = 1) -> None:
        """Until the WebUI has said its start-up time `starts` times and answers."""
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            assert self._process is not None
            if self._process.poll() is not None:
                raise AssertionError(f"it ended with {self._process.returncode}:\n{self.log()[-4000:]}")
            if self.log().count("Startup time") >= starts and self._answers():
                return
            time.sleep(0.2)
        raise AssertionError(f"it did not answer within {START_S:.0f} s:\n{self.log()[-4000:]}")

    def _answers(self) -> bool:
        try:
            self.get(self.health)
        except urllib.error.HTTPError as refused:
            refused.close()
            return False
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return True


def python_of(checkout: Path) -> Path | None:
    """The Python of a WebUI's own environment."""
    venv = checkout / "venv"
    return next((p for p in (venv / "bin/python", venv / "Scripts/python.exe") if p.exists()), None)


def has_bitsandbytes(checkout: Path) -> bool:
    """Whether a Forge that is given BITSANDBYTES as a place to import from has it."""
    return BITSANDBYTES.is_dir() or bool(list(checkout.glob("venv/**/site-packages/bitsandbytes")))


def cloned(folder: Path) -> Path:
    """The repository as "Install from URL" would fetch it: every file git knows or would take."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)
    return folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
