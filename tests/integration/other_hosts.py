"""Real WebUIs other than Forge, each in a process of its own with a data folder of its own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.integration import sd15, tiny_flux
from tests.integration.forge import PROBE, Forge

CARD = Path(__file__).resolve().parent / "neo_probe"
"""The test extension with a stand-in for a card; what it shares with Forge's is in that."""
WRITES_GGUF = Path(__file__).resolve().parent / "tiny_gguf.py"
FAMILY_FLAGS = ("--skip-torch-cuda-test", "--skip-prepare-environment")


class Neo(Forge):
    """Forge Neo: the checkout keeps it under webui/, and its virtual environment beside that."""

    base_flags = ("--cpu", "--skip-python-version-check", *FAMILY_FLAGS)
    health = "/sdapi/v1/options"
    probe = CARD
    folder = "webui"

    def options(self, given: dict[str, Any]) -> dict[str, Any]:
        # Without it, it waits for a key: it takes every other settings file for one of an old version.
        return {"VERSION_UID": "PY313", **given}


def tiny_neo(
    neo_dir: Path,
    data: Path,
    gib: str,
    extensions: dict[str, Path],
    *,
    page: bool = False,
    flags: Sequence[str] = (),
    options: dict[str, Any] | None = None,
) -> Neo:
    """Forge Neo on what stands for a card of so many GiB, with tiny models: Flux (dev, in bf16, fp8 and GGUF, and
    schnell) and Stable Diffusion 1.5.

    It counts encodings and unloads.
    """
    files = tiny_flux.write_all(data / "models")
    checkpoints = files["one"].parent
    tiny_flux.scaled_fp8(checkpoints / "tiny-fp8.safetensors", files["one"])
    tiny_flux.schnell(checkpoints / "tiny-schnell.safetensors", 8)
    sd15.write(checkpoints / "tiny-sd15.safetensors", 9, sd15.TINY)
    sd15.lora(data / "models" / "Lora" / "tiny-lora-sd15.safetensors", 10, layer=1)
    in_gguf = [files["two"], checkpoints / "tiny-gguf.gguf", "Q8_0"]
    subprocess.run([neo_dir / "venv" / "bin" / "python", WRITES_GGUF, *in_gguf], check=True)
    modules = sorted(str(files[name]) for name in ("t5", "clip", "vae"))
    webui = Neo(
        neo_dir,
        data,
        flags=(
            *(() if page else ("--nowebui",)),
            *("--api", "--bf16-unet", "--enable-insecure-extension-access"),
            *flags,
        ),
        options={
            "sd_model_checkpoint": "tiny-one.safetensors",
            "forge_additional_modules": modules,
            "forge_additional_modules_flux": modules,
            "forge_preset": "flux",
            **(options or {}),
        },
        extensions=extensions,
        environ={"PROBE_TINY": "1", "PROBE_CARD_GIB": gib},
    )
    scripts = data / "extensions" / "001-shared" / "scripts"
    scripts.mkdir(parents=True)
    for name in ("counts.py", "shrink.py"):
        shutil.copy(PROBE / "scripts" / name, scripts)
    return webui


class ReForge(Forge):
    """reForge, branch main."""

    base_flags = ("--always-cpu", "--no-download-sd-model", *FAMILY_FLAGS)
    health = "/sdapi/v1/options"
    probe = CARD


class A1111(Forge):
    """A1111 1.10."""

    base_flags = ("--use-cpu", "all", "--no-half", "--no-download-sd-model", *FAMILY_FLAGS)
    health = "/sdapi/v1/options"
    probe = CARD


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
