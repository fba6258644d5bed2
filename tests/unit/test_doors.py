"""The doors in processes of their own: what preload imports and costs nobody, and who stands down."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
EXTENSION = REPOSITORY / "extensions" / "flux-speedup"
CALL_PRELOAD = """
import argparse, importlib.util, json, sys
parser = argparse.ArgumentParser()
for door in sys.argv[1:]:
    spec = importlib.util.spec_from_file_location("preload.py", door)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.preload(parser)
flags = [option for action in parser._actions for option in action.option_strings]
print(json.dumps({"modules": sorted(sys.modules), "flags": flags, "path": sys.path}))
"""


def call_preload(*doors: Path, cwd: Path) -> tuple[dict[str, list[str]], str]:
    done = subprocess.run(
        [sys.executable, "-c", CALL_PRELOAD, *map(str, doors)],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
    )
    return json.loads(done.stdout), done.stderr


def test_preload_imports_neither_torch_nor_gradio_and_leaves_sys_path(tmp_path: Path) -> None:
    seen, _ = call_preload(EXTENSION / "preload.py", cwd=tmp_path)
    heavy = {"torch", "gradio", "fastapi", "numpy", "sqlite3", "asyncio"}
    assert heavy.isdisjoint(seen["modules"])
    assert not any(Path(entry).is_relative_to(EXTENSION) for entry in seen["path"])
    assert "--flux-speedup-off" in seen["flags"]


def test_the_second_copy_stands_down_with_one_line(tmp_path: Path) -> None:
    copy = tmp_path / "flux-speedup"
    shutil.copytree(EXTENSION, copy, ignore=shutil.ignore_patterns("__pycache__"))
    seen, said = call_preload(copy / "preload.py", REPOSITORY / "preload.py", cwd=tmp_path)
    assert seen["flags"].count("--flux-speedup-off") == 1
    lines = [line for line in said.splitlines() if "stands down" in line]
    assert len(lines) == 1
    assert str(EXTENSION) in lines[0]
    assert str(copy) in lines[0]


def test_flags_taken_by_somebody_else_are_no_error(tmp_path: Path) -> None:
    taken = tmp_path / "preload.py"
    taken.write_text("def preload(parser):\n    parser.add_argument('--flux-speedup-off')\n")
    _, said = call_preload(taken, EXTENSION / "preload.py", cwd=tmp_path)
    assert "stands down" in said


@pytest.mark.parametrize("door", ["preload.py", "install.py", "scripts/flux_speedup.py"])
def test_root_doors_are_thin(door: str) -> None:
    lines = (REPOSITORY / door).read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 10


def test_install_prints_nothing(tmp_path: Path) -> None:
    for folder in (REPOSITORY, EXTENSION):
        done = subprocess.run(
            [sys.executable, str(folder / "install.py")],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        assert done.stdout + done.stderr == ""
