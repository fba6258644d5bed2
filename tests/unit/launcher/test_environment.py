"""What stands in a folder beside an environment: installed once, anew where its version changes, never a must."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from launcher.environment import EnvironmentSetupError, ensure_beside


def wheel(folder: Path, version: str) -> Path:
    """One that asks for something that nobody has."""
    info = f"lonely-{version}.dist-info"
    path = folder / f"lonely-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("lonely.py", f"VERSION = {version!r}\n")
        wanted = f"Metadata-Version: 2.1\nName: lonely\nVersion: {version}\nRequires-Dist: nobody-has-this\n"
        file.writestr(f"{info}/METADATA", wanted)
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return path


def test_it_is_there_alone_and_stays_where_a_newer_one_cannot_be_had(tmp_path: Path) -> None:
    asked, folder = tmp_path / "asked.txt", tmp_path / "beside"
    for version in ("1.0", "2.0"):
        asked.write_text(str(wheel(tmp_path, version)))
        ensure_beside(Path(sys.executable), folder, asked)
        assert version in (folder / "lonely.py").read_text()
    (folder / "lonely.py").write_text("mine")
    ensure_beside(Path(sys.executable), folder, asked)
    assert (folder / "lonely.py").read_text() == "mine", "nothing is asked of pip again"

    asked.write_text(str(tmp_path / "lonely-3.0-py3-none-any.whl"))
    with pytest.raises(EnvironmentSetupError):
        ensure_beside(Path(sys.executable), folder, asked)
    assert (folder / "lonely.py").read_text() == "mine"
