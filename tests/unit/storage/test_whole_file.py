"""Small files of ours: whole, and nothing left of writers that were killed."""

from __future__ import annotations

import os
from pathlib import Path

from flux_speedup.storage import whole_file


def test_what_a_killed_writer_left_goes_and_what_another_writes_now_stays(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "digests.json"
    whole_file.write(path, "old")
    killed, writing, theirs = (
        path.parent / name for name in ("digests.jsonx1.part", "digests.jsonx2.part", "a.part")
    )
    for file in (killed, writing, theirs):
        file.write_text("half")
    long_ago = killed.stat().st_mtime - 2 * whole_file.ABANDONED_S
    os.utime(killed, (long_ago, long_ago))
    os.utime(theirs, (long_ago, long_ago))
    whole_file.write(path, "new")
    assert path.read_text() == "new"
    assert sorted(p.name for p in path.parent.iterdir()) == ["a.part", "digests.json", "digests.jsonx2.part"]
