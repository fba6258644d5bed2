"""Virtual environments in .venv/, made on first use and marked complete by the hashes of what they hold."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAMP = ".complete"


class EnvironmentSetupError(RuntimeError):
    """An environment could not be made; the message says which step failed and what helps."""


def ensure(name: str, requirement_files: Sequence[Path], alone: Sequence[Path] = ()) -> Path:
    """Return the Python of `.venv/<name>` with all `requirement_files` installed, making it where needed.

    The files go to pip in one command, so that their pins are resolved together; what the files `alone` name
    is installed after that, without what it asks for. What was left half done carries no stamp and is
    completed by the next call.

    Raises:
        EnvironmentSetupError: venv or pip failed; their own output went to the terminal.
    """
    folder = ROOT / ".venv" / name
    python = _python_of(folder)
    stamp = folder / STAMP
    wanted = _digest([*requirement_files, *alone])
    # `run` and `test` share an environment and ask for different files: a line for each set installed.
    complete = stamp.read_text(encoding="utf-8").split() if stamp.is_file() else []
    if wanted in complete and _runs(python):
        return python
    stamp.unlink(missing_ok=True)
    if not _runs(python):
        complete = []
        _call([sys.executable, "-m", "venv", "--clear", str(folder)], f"making {folder} (is venv there?)")
    _install(python, requirement_files, [])
    if alone:
        _install(python, alone, ["--no-deps"])
    stamp.write_text("\n".join([*complete, wanted]), encoding="utf-8")
    return python


def ensure_beside(python: Path, folder: Path, requirement_file: Path) -> None:
    """Have what the file names in `folder`, to be imported from there, without what that in turn asks for.

    Raises:
        EnvironmentSetupError: pip failed; what was in the folder before is still there.
    """
    stamp, wanted = folder / STAMP, _digest([requirement_file])
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    _install(python, [requirement_file], ["--no-deps", "--upgrade", "--target", str(folder)])
    stamp.write_text(wanted, encoding="utf-8")


def _install(python: Path, files: Sequence[Path], flags: Sequence[str]) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *flags]
    for file in files:
        command += ["-r", str(file)]
    names = ", ".join(file.name for file in files)
    into = flags[-1] if "--target" in flags else python.parent.parent
    _call(command, f"installing {names} into {into} (run it again to go on)")


def _python_of(folder: Path) -> Path:
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def _runs(python: Path) -> bool:
    if not python.exists():
        return False
    return subprocess.run([str(python), "-c", ""], check=False).returncode == 0


def _digest(files: Sequence[Path]) -> str:
    whole = hashlib.sha256()
    for file in files:
        whole.update(file.read_bytes() + b"\0")
    return whole.hexdigest()


def _call(command: list[str], what: str) -> None:
    sys.stderr.write(f"-- {what.split(' (')[0]}\n")
    # What pip says about its mirrors belongs to stderr; stdout may be a report that somebody reads.
    code = subprocess.run(command, check=False, stdout=sys.stderr).returncode
    if code != 0:
        raise EnvironmentSetupError(f"{what}: failed with exit code {code}")
