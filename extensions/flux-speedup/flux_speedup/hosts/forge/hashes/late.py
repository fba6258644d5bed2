"""What stands where the host keeps the hash of a checkpoint, for as long as that is still to come."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

log = logging.getLogger("flux_speedup")


class Late:
    """Stands for the short hash of a checkpoint that is still to come. `value` counts once it is `known`.

    title: that of the checkpoint's entry until then.
    """

    def __init__(self, info: Any) -> None:
        self.info = info
        self.title = vars(info).get("title")
        self.known = False
        self.value: str | None = None
        self._file = _as_it_is(info.filename)

    def __str__(self) -> str:
        """For the lines in which a host tells what it loads."""
        return self.value or "hash still to come"

    def is_of(self, found: str | None) -> None:
        """The hash that the file has now: not that of what was loaded, if it was written over since."""
        if found is not None and _as_it_is(self.info.filename) != self._file:
            log.warning(
                "%s: changed since it was loaded; images made with it go without a hash", self.info.filename
            )
            found = None
        self.value, self.known = found, True


def _as_it_is(file: str) -> tuple[int, int, int] | None:
    try:
        stat = Path(file).stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
