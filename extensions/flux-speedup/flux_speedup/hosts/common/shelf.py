"""Built models that are kept, and what becomes of them: used again, or gone, with a line on why."""

from __future__ import annotations

import gc
import logging

from ...stats.report import size
from ...weights.checkpoints import Checkpoints, Key
from ...weights.files.identity import FileIdentity
from .built import Built

FULL = "checkpoints_kept and checkpoints_ram_gib allow no more"
log = logging.getLogger("flux_speedup")


class Shelf(Checkpoints[Built]):
    """What goes is garbage in circles: collected at once where memory is short, else at the next `collect`."""

    _garbage = False

    def keep(self, built: Built) -> None:
        assert built.key is not None
        for gone in self.put(built.key, built, built.ram):
            log.info("%s is not kept any longer (%s of RAM): %s", gone.model.name, size(gone.ram), FULL)
            self._garbage = True

    def forget(self, key: Key) -> None:
        """What was built from this is to be built anew."""
        self._garbage = self.take(key) is not None or self._garbage

    def forget_changed(self) -> None:
        for stale in self.drop_changed():
            log.info("%s is not kept any longer: a file it was built from has changed", stale.model.name)
            self._garbage = True

    def drop_failed(self, built: Built) -> None:
        """Nobody knows what state a request that raised has left it in."""
        self._garbage = self.drop(built) or self._garbage

    def drop_built_from(self, identity: FileIdentity) -> None:
        """A file is about to be written over: what is kept of it would be built anew anyway."""
        stale = [kept for kept in self.entries() if identity in dict(kept.key.files).values()]
        names = [kept.model.name for kept in stale if self.drop(kept.model)]
        stale.clear()
        for name in names:
            log.info("%s is not kept any longer: a file it was built from is being written over", name)
        if names:
            gc.collect()

    def make_room(self) -> bool:
        """Memory is short: keep nothing. Returns whether anything was kept."""
        names = [kept.model.name for kept in self.clear()]
        for name in names:
            log.warning("%s is not kept any longer: memory is short", name)
        gc.collect()
        return bool(names)

    def collect(self) -> None:
        if self._garbage:
            self._garbage = False
            gc.collect()
