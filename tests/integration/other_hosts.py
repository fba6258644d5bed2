"""Real WebUIs other than Forge, each in a process of its own with a data folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.integration.forge import Forge

FAMILY_FLAGS = ("--skip-torch-cuda-test", "--skip-prepare-environment")


class Neo(Forge):
    """Forge Neo: the checkout keeps it under webui/, and its virtual environment beside that."""

    base_flags = ("--cpu", "--skip-python-version-check", *FAMILY_FLAGS)
    health = "/sdapi/v1/options"
    probe = Path(__file__).resolve().parent / "neo_probe"
    folder = "webui"

    def options(self, given: dict[str, Any]) -> dict[str, Any]:
        # Without it, it waits for a key: it takes every other settings file for one of an old version.
        return {"VERSION_UID": "PY313", **given}


class ReForge(Forge):
    """reForge, branch main."""

    base_flags = ("--always-cpu", "--no-download-sd-model", *FAMILY_FLAGS)
    health = "/sdapi/v1/options"
    probe = None


class A1111(Forge):
    """A1111 1.10."""

    base_flags = ("--use-cpu", "all", "--no-half", "--no-download-sd-model", *FAMILY_FLAGS)
    health = "/sdapi/v1/options"
    probe = None


HOSTS: dict[str, tuple[type[Forge], str]] = {
    "Forge Neo": (Neo, "sd-webui-forge-neo"),
    "reForge": (ReForge, "stable-diffusion-webui-reForge"),
    "A1111": (A1111, "stable-diffusion-webui"),
}


def checkout(name: str) -> Path | None:
    """Where a WebUI is, None where it is not or cannot be started."""
    host, folder = HOSTS[name]
    found = Path.home() / folder
    python = found / "venv" / "bin" / "python"
    return found if (found / host.folder / "launch.py").is_file() and python.exists() else None
