"""Where each checkpoint is, and what bringing it would take."""

from __future__ import annotations

from pathlib import Path

import pytest

from flux_speedup.facts.checkpoints import nearest, seconds
from flux_speedup.stats.events import Event, Totals
from flux_speedup.stats.machine import Machine

GB = 10**9
BUS = Machine(0.0, "card", disk=2.0, page_cache=20.0, bus=50.0)
# One build at 10 GB/s, and one move at 5.
SEEN = Totals.of(
    [Event("checkpoint", "a", 20 * GB, 2.0, "file", "RAM"), Event("move", "a", 20 * GB, 4.0, "disk", "GPU")]
)


def test_the_nearest_comes_first_and_what_is_gone_is_left_out(tmp_path: Path) -> None:
    shares = {"disk": 0.49, "cached": 0.5, "kept": None, "used": 0.0, "unknown": None}
    files = {name: tmp_path / name for name in shares}
    for path in files.values():
        path.write_bytes(b"1234")
    listed = [*((path, (name, name.upper())) for name, path in files.items()), (tmp_path / "gone", ("gone",))]
    memory = {files["used"]: "card", files["kept"]: "kept"}
    found = nearest(listed, memory, None, Totals(), lambda path: shares[path.name])
    assert [(each.names[0], each.where, each.cached) for each in found] == [
        ("used", "card", 0.0),
        ("kept", "kept", None),
        ("cached", "page cache", 0.5),
        ("disk", "disk", 0.49),
        ("unknown", "disk", None),
    ]
    assert {each.bytes for each in found} == {4}
    assert [each.seconds for each in found] == [0.0, None, None, None, None]


@pytest.mark.parametrize(
    ("where", "share", "machine", "totals", "expected"),
    [
        ("card", None, None, Totals(), 0.0),
        ("kept", 1.0, BUS, Totals(), 1.0),  # 20 GB through the page cache, slower than the bus
        ("kept", 0.5, BUS, Totals(), 5.5),  # half of it from the disk
        ("page cache", 1.0, BUS, SEEN, 3.0),  # and built
        ("page cache", 1.0, None, SEEN, 6.0),  # nothing was measured: as it went
        ("page cache", 1.0, BUS, Totals(), None),  # nothing was built yet
        ("kept", 1.0, None, Totals(), None),
        ("disk", None, BUS, SEEN, None),
    ],
)
def test_seconds(
    where: str, share: float | None, machine: Machine | None, totals: Totals, expected: float | None
) -> None:
    assert seconds(where, 20 * GB, share, machine, totals) == expected
