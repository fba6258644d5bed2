"""The log's last lines."""

from __future__ import annotations

import logging

from flux_speedup.log import Ring
from flux_speedup.ui import log_lines
from tests.page import Tags


def test_the_log_keeps_its_order_and_marks_what_went_wrong() -> None:
    ring, log = Ring(), logging.Logger("test", logging.INFO)
    log.addHandler(ring)
    log.info("WARNING.safetensors: 23.8 GB in 0.50 s")
    log.warning("not on this machine")
    log.error("CUDA was initialised before")
    read = Tags(log_lines.log_card(ring.lines(10)))
    assert read.text.index("0.50 s") < read.text.index("not on this") < read.text.index("CUDA")
    assert len(read.classed("fsu-warning")) == 1
    assert len(read.classed("fsu-error")) == 1
    assert "empty" in log_lines.log_card([])
