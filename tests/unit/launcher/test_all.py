"""`./test`, as somebody asks it what it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_its_own_and_sets_nothing_up(flag: str) -> None:
    asked = subprocess.run(
        [sys.executable, ROOT / "test", flag], capture_output=True, text=True, timeout=30, check=False
    )
    assert asked.returncode == 0
    assert "./test --soak" in asked.stdout
    assert len(asked.stdout.splitlines()) < 10
