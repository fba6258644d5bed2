"""Virtual environments in .venv/, made on first use and marked complete by the hashes of what they hold."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
STAMP = ".complete"
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"


class EnvironmentSetupError(RuntimeError):
    """An environment could not be made; the message says which step failed and what helps."""


def ensure(name: str, requirement_files: Sequence[Path], alone: Sequence[Path] = ()) -> Path:
    """Return the Python of `.venv/<name>` with all `requirement_files` installed, making it where needed.

    The files go to pip in one command, so that their pins are resolved together; what the files `alone` name
    is installed after that, without what it asks for. What was left half done carries no stamp and is
    completed by the next call. Two calls at once, of whatever processes: the second waits for the first.

    Raises:
        EnvironmentSetupError: venv or pip failed; their own output went to the terminal. Or the place cannot
            be written.
    """
    folder = ROOT / ".venv" / name
    python = _python_of(folder)
    stamp = folder / STAMP
    wanted = _digest([*requirement_files, *alone])
    if wanted in _complete(stamp) and _runs(python):
        return python
    try:
        with alone_at(folder.with_name(f"{name}.lock")):
            if wanted in _complete(stamp) and _runs(python):
                return python
            # `run` and `test` share an environment and ask for different files: a line for each set installed.
            complete = _complete(stamp)
            stamp.unlink(missing_ok=True)
            if not _runs(python):
                complete = []
                _call(
                    [sys.executable, "-m", "venv", "--clear", str(folder)],
                    f"making {folder} (is venv there?)",
                )
            _install(python, requirement_files, [])
            if alone:
                _install(python, alone, ["--no-deps"])
            stamp.write_text("\n".join([*complete, wanted]), encoding="utf-8")
            return python
    except OSError as error:
        raise EnvironmentSetupError(f"{folder} cannot be made: {error}") from error


@contextlib.contextmanager
def alone_at(lock: Path) -> Iterator[None]:
    """In here no other process is in here with the same file. Raises OSError where it cannot be made."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+b") as file:
        if not _locked(file):
            sys.stderr.write("-- another set-up is under way; waiting for it\n")
            while not _locked(file):
                time.sleep(0.2)
        yield  # closing the file unlocks it, and so does the end of the process


def _locked(file: IO[bytes]) -> bool:
    """Whether the lock is ours now."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # on Windows somebody has it; elsewhere this file system has no locks to wait for
        return os.name != "nt"
    return True


def _complete(stamp: Path) -> list[str]:
    return stamp.read_text(encoding="utf-8").split() if stamp.is_file() else []


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
    texts = [file.read_text(encoding="utf-8") for file in files]
    sizes = [int(found) for text in texts for found in re.findall(r"^# About (\d+) MB", text, re.MULTILINE)]
    if sizes:
        sys.stderr.write(f"-- about {sum(sizes)} MB are fetched once, and take four times that on the disk\n")
    pip = [str(python), "-m", "pip"]
    install = [*pip, "install", "--disable-pip-version-check", *flags]
    torch = next((line for text in texts for line in text.splitlines() if line.startswith("torch==")), None)
    if torch is not None and wants_cpu_wheels(sys.platform, _output([*pip, "config", "list"])):
        _call(
            [*install, "--index-url", CPU_WHEELS, torch],
            f"installing {torch} for the CPU (run it again to go on)",
        )
    command = list(install)
    for file in files:
        command += ["-r", str(file)]
    names = ", ".join(file.name for file in files)
    into = flags[-1] if "--target" in flags else python.parent.parent
    _call(command, f"installing {names} into {into} (run it again to go on)")


def wants_cpu_wheels(platform: str, pip_configuration: str) -> bool:
    """Whether PyTorch comes from its own index: on Linux PyPI's is gigabytes of CUDA. What pip is told to use
    instead of PyPI is used.
    """
    return platform == "linux" and not re.search(r"index-url|find-links|no-index", pip_configuration)


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=False, capture_output=True, text=True, encoding="utf-8").stdout


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
