"""The files for container images: hadolint takes the one, the other has documented keys, both one environment."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flux_speedup.features.allocator import SETTING
from flux_speedup.local_models.fetch import _parser

pytestmark = pytest.mark.adetailer
REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE, COG = REPOSITORY / "deploy" / "Dockerfile", REPOSITORY / "deploy" / "cog.yaml"
CUDA = {
    "NVIDIA_VISIBLE_DEVICES": "all",
    "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
    "CUDA_MODULE_LOADING": "LAZY",
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    "PYTORCH_CUDA_ALLOC_CONF": SETTING,
}
# From the reference of cog.yaml (docs/yaml.md of Cog 0.2x).
TOP_KEYS = {"build", "image", "model", "run", "predict", "train", "concurrency", "environment", "weights"}
BUILD_KEYS = {
    "cuda": str,
    "cudnn": str,
    "gpu": bool,
    "python_version": str,
    "python_packages": list,
    "python_requirements": str,
    "pre_install": list,
    "system_packages": list,
    "sdk_version": str,
    "run": list,
}


def instructions() -> list[tuple[str, str]]:
    """(instruction, its text) of the Dockerfile, continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined if line.strip())]


def cog() -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.safe_load(COG.read_text())
    return found


def hadolint(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("hadolint")
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)


def test_hadolint_has_nothing_to_say(tmp_path: Path) -> None:
    done = hadolint(str(DOCKERFILE))
    assert (done.returncode, done.stdout) == (0, "")
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python:latest\nRUN cd /tmp\n")
    assert hadolint(str(bad)).returncode != 0


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    ignored = (REPOSITORY / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [rest.split()[0] for word, rest in instructions() if word == "COPY" and "--from" not in rest]
    assert copied
    for name in copied:
        assert (REPOSITORY / name).exists()
        assert f"!{name}" in ignored


def test_cog_yaml_has_documented_keys_of_the_right_kind() -> None:
    found = cog()
    assert set(found) <= TOP_KEYS
    for key, value in found["build"].items():
        assert isinstance(value, BUILD_KEYS[key]), key
    assert all(isinstance(each, str) and "=" in each for each in found["environment"])


def test_both_fetch_everything_while_the_image_is_built_and_look_again() -> None:
    runs = [rest for word, rest in instructions() if word == "RUN"] + cog()["build"]["run"]
    commands = [part.strip() for run in runs for part in run.split("&&") if "fetch.py" in part]
    assert len(commands) == 4
    for command in commands:
        asked = _parser().parse_args(shlex.split(command.split("fetch.py", 1)[1]))
        assert asked.all
        assert asked.dest
    assert sum("--verify" in command for command in commands) == 2


def test_both_set_the_same_variables_for_cuda() -> None:
    (text,) = [rest for word, rest in instructions() if word == "ENV"]
    assert dict(pair.split("=", 1) for pair in shlex.split(text)) == CUDA
    environment = dict(pair.split("=", 1) for pair in cog()["environment"])
    environment.pop("FLUX_SPEEDUP_REPOSITORY")
    assert environment == CUDA
