"""Checkpoints that may be asked for next are hashed, one after the other: those that are in RAM already.

So nothing is read from a disk, and nothing pushed out of the page cache, for a file that nobody may ask for.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from ...ram import cores
from ...weights.files.file_digests import FileDigests
from ...weights.files.readahead import ReadAhead

MANY_CORES = 8
"""From here on a second file is hashed beside the one that is selected."""
POLL_S = 0.5
log = logging.getLogger("flux_speedup")


class Likely:
    """A thread of its own. Where cores are few they come after the checkpoint that is selected.

    `reading`: ends before anything is begun. `is_cold`: whether a file would have to be read from its disk.
    """

    def __init__(
        self,
        digests: FileDigests,
        selected: Path,
        reading: ReadAhead | None,
        is_cold: Callable[[Path], bool],
    ) -> None:
        self._digests = digests
        self._selected = selected
        self._reading = reading
        self._is_cold = is_cold
        self._stopped = threading.Event()
        self.thread = threading.Thread(target=self._work, name="flux-speedup-likely", daemon=True)

    def start(self) -> None:
        """Begin; once. Never raises."""
        with contextlib.suppress(RuntimeError):  # no more threads here
            self.thread.start()

    def stop(self) -> None:
        """No other file is begun."""
        self._stopped.set()

    def _work(self) -> None:
        try:
            while self._reading is not None and not self._reading.wait(0) and not self._stopped.wait(POLL_S):
                pass
            if cores() < MANY_CORES:
                self._wait_for(self._selected)
            for path in self._files():
                if self._stopped.is_set():
                    return
                self._digests.begin(path)
                self._wait_for(path)
        except Exception as error:  # a courtesy in the background: it must not be able to stop anything
            log.info("no other checkpoint is hashed ahead (%s)", error)

    def _wait_for(self, path: Path) -> None:
        while self._digests.under_way(path) and not self._stopped.wait(POLL_S):
            pass

    def _files(self) -> list[Path]:
        """As the host lists them, the newest first."""
        listed = list(sys.modules["modules.sd_models"].checkpoints_list.values())
        unknown = [Path(info.filename) for info in listed if not info.sha256]
        found = [
            path
            for path in dict.fromkeys(unknown)
            if path.is_file() and self._digests.known(path) is None and not self._is_cold(path)
        ]
        return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
