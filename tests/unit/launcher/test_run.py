"""The command line of ./run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S, eventually

RUN = Path(__file__).resolve().parents[3] / "run"
SAYS_ITS_ARGUMENTS = """
import json, pathlib, sys
pathlib.Path("said").write_text(json.dumps(sys.argv[1:]))
sys.exit(7)
"""


def run(*arguments: str, webui: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if key != "FLUX_SPEEDUP_WEBUI"}
    if webui is not None:
        environ["FLUX_SPEEDUP_WEBUI"] = str(webui)
    command = [sys.executable, str(RUN), *arguments]
    return subprocess.run(
        command, env=environ, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


@pytest.fixture
def webui(tmp_path: Path) -> Path:
    (tmp_path / "extensions").mkdir()
    (tmp_path / "launch.py").write_text(SAYS_ITS_ARGUMENTS)
    return tmp_path


def test_installs_starts_and_passes_arguments_and_exit_code_on(webui: Path) -> None:
    done = run("--webui", str(webui), "--api", "--port", "7999", "--lowvram")
    assert done.returncode == 7, done.stderr
    assert sorted(json.loads((webui / "said").read_text())) == ["--api", "--lowvram", "--port", "7999"]
    assert (webui / "extensions" / "flux-speedup" / "preload.py").is_file()


def test_plain_run_starts_the_webui_that_the_environment_names(webui: Path) -> None:
    assert run("--api", webui=webui).returncode == 7
    assert json.loads((webui / "said").read_text()) == ["--api"]


def test_a_wrong_folder_is_one_clear_line(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    done = run("--webui", str(missing))
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: {missing} is no folder; --webui wants the folder of a WebUI"


def test_a_taken_port_is_said_before_anything_is_set_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("--port", str(port))
    assert done.returncode == 2
    assert f"port {port} is taken" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--json", "x"), "--json belongs to --once"),
        (("--once", "--api"), "--once takes no further arguments: --api"),
        (("--once", "--port", "80"), "--once takes no further arguments: --port"),
        (("--once", "--webui", "x"), "--once takes no further arguments: --webui"),
        (("--once", "--json", "nowhere/x.json"), "it cannot be written (No such file or directory)"),
        (("--once", "--json", "."), "it cannot be written (Is a directory)"),
        (("--port", "http"), "'http' is no port: 1 to 65535 are"),
        (("--port", "65536"), "'65536' is no port: 1 to 65535 are"),
        (("--port", "-1"), "argument --port"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_is_set_up(arguments: tuple[str, ...], told: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert told in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_looking_whether_a_file_can_be_written_leaves_it_as_it_was(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text("what was there")
    for file in (kept, tmp_path / "new.json"):
        run("--once", "--json", str(file), "--api")
    assert [each.name for each in tmp_path.iterdir()] == ["kept.json"]
    assert kept.read_text() == "what was there"


@pytest.mark.skipif(sys.platform == "win32", reason="nobody is asked to end there")
def test_whoever_ends_it_ends_the_webui(tmp_path: Path) -> None:
    (tmp_path / "extensions").mkdir()
    (tmp_path / "launch.py").write_text(
        "import os, pathlib, time\n"
        "pathlib.Path('new').write_text(str(os.getpid()))\n"
        "pathlib.Path('new').rename('pid')\n"
        f"time.sleep({PATIENCE_S})\n"
    )
    with subprocess.Popen([sys.executable, str(RUN), "--webui", str(tmp_path)]) as starter:
        assert eventually((tmp_path / "pid").exists)
        own = int((tmp_path / "pid").read_text())
        starter.terminate()
        assert starter.wait(PATIENCE_S) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(own, 0)
