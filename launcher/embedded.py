"""Starts the embedded WebUI: its environment, its folders, its process."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .environment import ROOT, ensure

LAUNCH = ROOT / "embedded_webui" / "launch.py"
CACHE = ROOT / ".cache"
DATA = CACHE / "embedded"
MODELS = DATA / "models-2"  # counted on when what is written there changes
GRADIO = "4.40.0"
_WRITE = """
import sys
sys.path.insert(0, sys.argv[1])
import second_device
second_device.why_not()
from tiny_flux.models import write_missing
write_missing(sys.argv[2])
"""


def python() -> Path:
    """The Python that runs it; the environment is made on first use.

    Raises:
        EnvironmentSetupError: it could not be made.
    """
    requirements = ROOT / "requirements"
    return ensure(f"gradio-{GRADIO}", [requirements / f"gradio-{GRADIO}.txt", requirements / "run.txt"])


def command(interpreter: Path, data: Path, port: int, arguments: Sequence[str]) -> list[str]:
    """The command line of a server on 127.0.0.1."""
    folders = ["--data-dir", str(data), "--models-dir", str(MODELS)]
    return [str(interpreter), str(LAUNCH), *folders, "--port", str(port), *arguments]


def write_weights(interpreter: Path) -> list[Path]:
    """Write the tiny models that are missing, compile the stand-in for a card; the models' files."""
    subprocess.run([str(interpreter), "-c", _WRITE, str(LAUNCH.parent), str(MODELS)], check=True)
    return sorted(MODELS.rglob("*.safetensors"))


def why_not_at(port: int) -> str:
    """Why no server can listen on this port of 127.0.0.1; empty where one can."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            return f"port {port} is taken"
    with socket.socket() as probe:
        if os.name == "posix":  # else a port that was used a minute ago seems taken
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return f"port {port} cannot be used ({error.strerror})"
    return ""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
