"""Several WebUI processes with one database."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import flux_speedup
from flux_speedup.stats.events import Query
from flux_speedup.stats.store import Store
from tests.waiting import PATIENCE_S

ROOT = Path(flux_speedup.__file__).resolve().parent.parent
EVENTS = 500
WRITER = """
import sys
from pathlib import Path
from flux_speedup.stats.events import Event
from flux_speedup.stats.recorder import Recorder
from flux_speedup.stats.store import Store

name, path, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
recorder = Recorder(Store(path))
for number in range(count):
    recorder.record(Event("startup", f"{name} {number}", number, 0.5, "disk", "GPU"))
    if number % 5 == 0:
        recorder.flush(30)
recorder.close()
"""


def start(name: str, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", WRITER, name, str(path), str(EVENTS)]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_two_processes_at_once_lose_and_break_nothing(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "stats.sqlite3"
    writers = [start(name, path) for name in ("first", "second")]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        _, errors = writer.communicate(timeout=PATIENCE_S)
        assert (writer.returncode, errors) == (0, "")

    store = Store(path)
    found = [event.what for event in store.events(Query(limit=5000))]
    store.close()
    assert sorted(found) == sorted(f"{name} {n}" for name in ("first", "second") for n in range(EVENTS))
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()
    assert not path.with_name(path.name + ".corrupt").exists()


def test_importing_statistics_imports_nothing_slow() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import flux_speedup.stats.recorder, flux_speedup.stats.report\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert done.stdout.split() == ["flux_speedup"]
