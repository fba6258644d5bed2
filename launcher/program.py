"""A program that runs for as long as the one that started it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def run(command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> int:
    """Start it, wait for its end, return its exit code. Whoever ends this process (SIGTERM) ends that one.

    Called on the main thread.
    """
    with subprocess.Popen(command, cwd=cwd, env=env) as process:
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            code = process.wait()
        finally:
            signal.signal(signal.SIGTERM, before)
    return code if code >= 0 else 128 - code
