"""The log's last lines."""

from __future__ import annotations

from flux_speedup.ui import log_lines
from tests.fake_view import LOG
from tests.page import Tags


def test_the_log_keeps_its_order_and_marks_what_went_wrong() -> None:
    read = Tags(log_lines.log_card(LOG))
    assert read.text.index("0.50 s") < read.text.index("WARNING") < read.text.index("ERROR")
    assert len(read.classed("fsu-warning")) == 1
    assert len(read.classed("fsu-error")) == 1
    assert "empty" in log_lines.log_card([])
