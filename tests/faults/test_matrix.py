"""The fault matrix: whatever fails, at whatever position, the next image is right and nothing is left behind."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.faults.matrix import rows
from tests.second_device import why_not


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_fault_at_every_call_leaves_the_next_image_right(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "flux_speedup")
    found = list(rows(tmp_path, "bf16", most=12))
    assert not [problem for row in found for problem in row.wrong]
    assert {row.point for row in found if row.positions} >= {
        "open",
        "fstat",
        "mmap",
        "preadv",
        "allocate",
        "copy",
    }
    assert sum(row.passed_on for row in found) > 50, "hardly any fault was noticed: is the injector at work?"
