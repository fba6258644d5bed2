"""A process that writes all of our files is killed at a random moment, again and again: each file stays whole."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from tests.soak.outcome import Outcome

WRITER = """
import sys, itertools
from pathlib import Path
from flux_speedup.stats.events import Event
from flux_speedup.stats.store import Store
from flux_speedup.storage import whole_file
from flux_speedup.storage.sidecar import Sidecar, Stamp

folder = Path(sys.argv[1])
weights = folder / "weights.bin"
weights.write_bytes(b"x" * 100)
stamp = Stamp.of(weights)
store, sidecar = Store(folder / "statistics.sqlite3"), Sidecar(folder / "digests.json")
print("writing", flush=True)
for number in itertools.count():
    store.add([Event("move", f"model {number}", number, 0.5, "disk", "GPU", at=float(number + 1))])
    sidecar.put(folder / f"file {number % 50}", stamp, "%064x" % number)
    whole_file.write(folder / "small.json", '{"number": %d, "filler": "%s"}' % (number, "y" * 5000))
"""


def run(count: int, folder: Path, seed: int = 0) -> Outcome:
    """`count` processes, each killed 0 to 60 ms after its first write; what is there is read after each."""
    outcome = Outcome("kills")
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.random() * 0.06)
            process.kill()
            _, errors = process.communicate()
        outcome.tried += 1
        if errors:
            outcome.finding(f"number {number}: the writer itself failed: {errors.decode()[-300:]}")
        for problem in problems(folder):
            outcome.finding(f"number {number}: {problem}")
    outcome.figures["files left beside ours"] = len([p for p in folder.iterdir() if p.name not in EXPECTED])
    return outcome


EXPECTED = {
    "statistics.sqlite3",
    "statistics.sqlite3-wal",
    "statistics.sqlite3-shm",
    "digests.json",
    "small.json",
    "weights.bin",
}


def problems(folder: Path) -> list[str]:
    """What somebody who starts now would trip over."""
    found = []
    for name in ("digests.json", "small.json"):
        if (folder / name).exists():
            try:
                json.loads((folder / name).read_text())
            except ValueError as error:
                found.append(f"{name} is not whole ({error})")
    database = folder / "statistics.sqlite3"
    if database.exists():
        connection = sqlite3.connect(database, timeout=5)
        try:
            answer = connection.execute("PRAGMA integrity_check").fetchone()[0]
            if answer != "ok":
                found.append(f"statistics: {answer}")
        except sqlite3.Error as error:
            found.append(f"statistics: {error}")
        finally:
            connection.close()
    found += [f"{path.name} was set aside" for path in folder.glob("*.corrupt*")]
    return found
