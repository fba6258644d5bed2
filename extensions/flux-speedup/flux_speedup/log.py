"""The log of the extension: its own logger and handlers, never the root's."""

from __future__ import annotations

import logging
from collections import deque

PREFIX = "[flux-speedup] "
KEPT = 200


class Ring(logging.Handler):
    """The newest lines, to be shown to people: the time of day, and the level where it is not INFO."""

    def __init__(self, size: int = KEPT) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=size)
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        self._lines.append(line if record.levelno <= logging.INFO else f"{line} [{record.levelname.lower()}]")

    def lines(self, limit: int) -> list[str]:
        """At most `limit` of them, oldest first."""
        kept = list(self._lines)
        return kept[max(0, len(kept) - limit) :] if limit > 0 else []


RING = Ring()
"""What this process said last."""


def set_up_log() -> None:
    """Show INFO and above with our prefix. Idempotent; a handler somebody gave the logger is respected."""
    log = logging.getLogger("flux_speedup")
    given = [handler for handler in log.handlers if handler is not RING]
    if RING not in log.handlers:
        log.addHandler(RING)
    if given:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(PREFIX + "%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
