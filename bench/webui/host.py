"""A WebUI's checkout: Forge, Forge Neo, reForge or A1111."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Where the flags of each are declared.
DECLARED = (
    "modules/cmd_args.py",
    "modules/paths_internal.py",
    "backend/args.py",
    "ldm_patched/modules/args_parser.py",
)
WANTED = (
    "--skip-prepare-environment",
    "--skip-install",
    "--skip-torch-cuda-test",
    "--skip-python-version-check",
    "--no-download-sd-model",
)
DETECTOR = "finds-one.pt"
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


@dataclass(frozen=True)
class Host:
    """Where its launch.py is, the Python it runs with, whether that one's PyTorch sees a GPU, and its flags."""

    checkout: Path
    python: Path
    gpu: bool
    flags: tuple[str, ...]
    models_flag: str
    tiny_flag: str


def host_at(folder: Path) -> tuple[Host, dict[str, Any]]:
    """The checkout with its own Python (else the one that runs this), and what that Python says of the machine."""
    folder = folder.absolute()
    checkout = next((each for each in (folder, folder / "webui") if (each / "launch.py").is_file()), None)
    if checkout is None:
        raise SystemExit(f"{folder} has no launch.py: not a WebUI")
    # Forge Neo has its environment beside the folder that it is in.
    above = (checkout.parent,) if checkout.name == "webui" else ()
    places = (
        each / "venv" / name for each in (checkout, *above) for name in ("bin/python", "Scripts/python.exe")
    )
    python = next((place for place in places if place.exists()), Path(sys.executable))
    done = subprocess.run([str(python), "-c", ABOUT], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{python} has no usable PyTorch: {done.stderr[-500:]}")
    about: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    gpu = about["gpu"] is not None
    flags, models_flag, tiny_flag = flags_of(checkout, gpu=gpu)
    return Host(checkout, python, gpu, flags, models_flag, tiny_flag), {"folder": folder.name, **about}


def found_below(folder: Path) -> list[Path]:
    """Checkouts of WebUIs in this folder, by what is in them."""
    places = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    found = [each for each in places if any((each / sub / "launch.py").is_file() for sub in ("", "webui"))]
    if not found:
        raise SystemExit(f"no WebUI in {folder}: name one with --webui")
    return found


def detector(host: Host, models: Path) -> None:
    """A file that ADetailer finds in this models folder, under the name `DETECTOR`."""
    place = models / "adetailer" / DETECTOR
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        program = str(Path(__file__).with_name("detector.py"))
        subprocess.run([str(host.python), program, str(place)], check=True)


def flags_of(checkout: Path, *, gpu: bool) -> tuple[tuple[str, ...], str, str]:
    """Of the flags that start it as it is, without a GPU where there is none, those it knows; its flag for a models
    folder, and its flag for a transformer in bf16."""
    files = [checkout / name for name in DECLARED]
    declared = "".join(file.read_text(encoding="utf-8") for file in files if file.is_file())

    def known(flag: str) -> bool:
        return f'"{flag}"' in declared

    flags = [flag for flag in WANTED if known(flag)]
    if not gpu:
        other = ["--use-cpu", "all", "--no-half"]
        flags += next(([flag] for flag in ("--always-cpu", "--cpu") if known(flag)), other)
    models = "--model-ref" if known("--model-ref") else "--models-dir"
    return tuple(flags), models, "--bf16-unet" if known("--bf16-unet") else "--unet-in-bf16"
