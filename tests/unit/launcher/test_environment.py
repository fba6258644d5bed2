"""Making an environment: who waits, what is said before, where PyTorch comes from, what stands beside it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from launcher import environment
from launcher.environment import EnvironmentSetupError, alone_at, ensure, ensure_beside, wants_cpu_wheels

ROOT = Path(__file__).resolve().parents[3]
# Says when it is inside, and stays there until its standard input ends.
HOLDS = """
import sys
import zipfile
from pathlib import Path
from launcher.environment import alone_at
with alone_at(Path(sys.argv[1])):
    print("inside", flush=True)
    sys.stdin.read()
"""


def holding(lock: Path) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(lock)], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def test_a_second_set_up_says_that_it_waits_and_goes_on_when_the_first_has_ended(tmp_path: Path) -> None:
    with holding(tmp_path / "new" / "lock") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "inside\n"
        with holding(tmp_path / "new" / "lock") as second:
            assert second.stderr is not None
            assert second.stdout is not None
            assert "waiting" in second.stderr.readline()
            first.kill()  # the end of a process, however it comes, lets the next one in
            assert second.stdout.readline() == "inside\n"
            second.communicate("")
    with alone_at(tmp_path / "new" / "lock"):
        pass


@pytest.mark.parametrize(
    ("platform", "configuration", "wanted"),
    [
        ("linux", "", True),
        ("linux", "global.cert='/etc/x.crt'\nglobal.default-timeout='60'", True),
        ("linux", "global.index-url='https://mirror.example/simple'", False),
        ("linux", "global.extra-index-url='file:///wheels'", False),
        (":env:", ":env:.find-links='/wheels'", False),
        ("darwin", "", False),
        ("win32", "", False),
    ],
)
def test_linux_takes_the_cpu_wheels_unless_pip_is_told_where_to_look(
    platform: str, configuration: str, wanted: bool
) -> None:
    assert wants_cpu_wheels(platform, configuration) is wanted


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What would be run, of an environment in a folder of its own."""
    made: list[list[str]] = []

    def call(command: list[str], what: str) -> None:
        made.append(command)

    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "_call", call)
    monkeypatch.setattr(environment, "_output", lambda _command: "")
    monkeypatch.setattr(environment, "_runs", lambda python: bool(made))
    monkeypatch.setattr(environment, "wants_cpu_wheels", lambda _platform, _configuration: True)
    (tmp_path / ".venv" / "small").mkdir(parents=True)
    return made


def test_says_what_it_fetches_and_takes_pytorch_first(
    calls: list[list[str]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    one.write_text("# About 80 MB.\ngradio==4.40.0\n")
    other.write_text("# About 195 MB, of it 190 PyTorch.\ntorch==2.13.0\n")
    ensure("small", [one, other])
    _, torch, rest = calls
    assert torch[-3:] == ["--index-url", environment.CPU_WHEELS, "torch==2.13.0"]
    assert rest[-4:] == ["-r", str(one), "-r", str(other)]
    assert "about 275 MB are fetched" in capsys.readouterr().err
    calls.clear()
    assert ensure("small", [one, other]).is_relative_to(tmp_path)
    assert calls[0][1:3] == ["-m", "venv"]  # nothing runs, so that it is made anew


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".venv").write_text("no folder")
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    with pytest.raises(EnvironmentSetupError, match="cannot be made"):
        ensure("small", [])


@pytest.mark.parametrize("file", ["gradio-4.40.0.txt", "run.txt"])
def test_what_run_fetches_has_a_size(file: str) -> None:
    assert "\n# About " in (ROOT / "requirements" / file).read_text()


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
