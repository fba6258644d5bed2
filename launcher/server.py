"""An embedded WebUI in a process of its own, spoken to over its API."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import embedded

START_S = 180.0
REQUEST_S = 300.0


class PhaseError(RuntimeError):
    """A phase of the run failed; the message names it and ends with what the WebUI said last."""


class Server:
    """Started by entering, stopped by leaving the context. `start_s`: until the API answered, seconds."""

    def __init__(self, interpreter: Path, data: Path, flags: Sequence[str] = ("--nowebui",)) -> None:
        port = embedded.free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = data / "log.txt"
        self._command = embedded.command(interpreter, data, port, flags)
        self._process: subprocess.Popen[bytes] | None = None
        self.start_s = 0.0

    def __enter__(self) -> Server:
        started = time.perf_counter()
        environ = {key: value for key, value in os.environ.items() if key != "COMMANDLINE_ARGS"}
        environ.setdefault(
            "OMP_NUM_THREADS", "1"
        )  # where cores are busy, several threads are many times slower
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environ
            )
        try:
            self.wait_until_up()
        except BaseException:
            self.stop()
            raise
        self.start_s = time.perf_counter() - started
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process that was started, and no other."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """GET, or POST where there is a body; the JSON that comes back. Raises PhaseError."""
        request = urllib.request.Request(f"{self.url}{path}", _encoded(body))
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_S) as answer:
                return json.load(answer)
        except (OSError, ValueError) as error:
            self.stop()  # what it has to say of the error is in its log only after the answer
            raise PhaseError(f"{path}: {error}\n{self.last_words()}") from error

    def log(self) -> str:
        """What the WebUI wrote so far."""
        return self._log.read_text("utf-8", "replace")

    def last_words(self) -> str:
        """The end of it."""
        return "\n".join(self.log().splitlines()[-15:])

    def wait_until_up(self) -> None:
        """Return when the API answers. Raises PhaseError where it does not within three minutes."""
        until = time.perf_counter() + START_S
        while not self._answers():
            if self._process is None or self._process.poll() is not None or time.perf_counter() > until:
                raise PhaseError(f"start: the WebUI did not come up\n{self.last_words()}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/sdapi/v1/options", timeout=5):
                return True
        except urllib.error.HTTPError as error:
            return error.code == 401  # up, and it wants a password
        except OSError:
            return False


def _encoded(body: dict[str, Any] | None) -> bytes | None:
    return None if body is None else json.dumps(body).encode()
