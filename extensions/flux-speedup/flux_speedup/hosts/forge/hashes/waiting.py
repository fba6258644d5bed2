"""One line of the log for a hash that was really waited for."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

from ....stats.report import seconds as in_words

LEAST_S = 0.1
log = logging.getLogger("flux_speedup")


@contextlib.contextmanager
def waiting(file: str) -> Iterator[None]:
    """Say how long it took, where anybody could feel it."""
    started = time.perf_counter()
    yield
    seconds = time.perf_counter() - started
    if seconds >= LEAST_S:
        log.info(
            "%s: its hash, used for the first time, was waited for: %s", Path(file).name, in_words(seconds)
        )
