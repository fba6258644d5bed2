"""A pass that another process has begun: its digest, or, where it ends without one, that of a pass of our own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from .digest_pass import DigestPass, Pieces, pieces
from .gate import Gate

POLL_S = 0.05


class JoinedPass(DigestPass):
    """As one of our own that has been at it for a while."""

    def __init__(
        self,
        path: Path,
        gate: Gate,
        ended: Callable[[DigestPass], None],
        read: Pieces = pieces,
        *,
        at_work: Callable[[], bool],
        known: Callable[[], str | None],
    ) -> None:
        """`at_work`: whether the other process still is. `known`: the digest, if it has ended with one."""
        super().__init__(path, gate, ended, read)
        self._at_work = at_work
        self._known = known

    def wait(self) -> str | None:
        """Its digest."""
        self._join()
        return super().wait()

    def _work(self) -> None:
        self._join()
        super()._work()

    def _join(self) -> None:
        while not (self._stopped or self._over) and self._at_work():
            time.sleep(POLL_S)
        with self._one:
            digest = None if self._stopped or self._over else self._known()
            if digest is None:
                return
            self.digest = digest
            try:
                self._ended(self)
            finally:
                self._over = True
