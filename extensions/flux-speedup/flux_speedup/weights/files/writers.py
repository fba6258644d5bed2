"""Mapped files that somebody writes over: he waits until the old bytes are safe, or nobody reads them again."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable

from ...stats.report import size as in_words
from . import lease, remap
from .identity import FileIdentity
from .mapped import Held, Standing
from .readahead import HEADROOM
from .written import written_ranges

_log = logging.getLogger("flux_speedup")


class Writers:
    """Looks after the mapped files of a registry, on a thread of its own too. Safe from any thread."""

    def __init__(
        self,
        every: Callable[[], list[Held]],
        available: Callable[[], int],
        leases: bool,
        unused: Callable[[FileIdentity], object],
    ) -> None:
        """`every`: the mapped files; `available`: bytes of RAM that the old bytes of those may go to.

        `unused`: lets a mapping go that nobody views.
        """
        self.wait: Callable[[FileIdentity], object] = lambda identity: None
        """Told of a file before its old bytes go to RAM: whoever can do without them lets them go now."""
        self.over: list[FileIdentity] = []
        """Files that were written over while they were mapped, in this order."""
        self._every = every
        self._available = available
        self._leases = leases
        self._unused = unused
        self._watch = lease.Watch(self._look)
        self._told: list[weakref.WeakMethod[Callable[[FileIdentity], object]]] = []

    def lease(self, descriptor: int) -> bool:
        """Before a file is mapped: whether who writes to it waits for us first."""
        thread = self._watch.thread()  # first: what it looks after changes with notice only
        return self._leases and thread is not None and lease.place(descriptor, thread)

    def add(self, held: Held) -> None:
        """A file that is listed now."""
        self.check(held, closely=False)  # whoever came before it was listed waits for nobody else
        if not held.leased:
            self._watch.wake()  # from now on it looks more often

    def tell(self, method: Callable[[FileIdentity], object]) -> None:
        """`method` is called when a file is about to be written over, or was, and its mapping shows it no more.

        On the watching thread or on whose call found it out; whoever waits to write waits for it too. It is
        held weakly, and must be a method.
        """
        self._told = [*(each for each in self._told if each() is not None), weakref.WeakMethod(method)]

    def _look(self) -> float:
        """On the watching thread: whoever waits to write gets to it once the old bytes are safe."""
        every = self._every()
        for held in every:
            self.check(held, closely=False)
        return lease.POLL_S if any(not held.leased for held in every) else lease.IDLE_S

    def check(self, held: Held, *, closely: bool) -> None:
        """Where its file was written over, or somebody waits to, its bytes go to RAM or are lost."""
        # Held while it is looked at: else its descriptor may be closed meanwhile, and be of another file then.
        buffer = held.buffer()
        with held.lock:
            if buffer is None or held.standing is not Standing.FILE:
                return
            try:
                if held.is_current(closely=closely):
                    return
                self.over.append(held.identity)  # before anybody writes
                del buffer  # whoever can do without it lets it go now
                self._unused(held.identity)
                self.wait(held.identity)
                buffer = held.buffer()
                if buffer is not None:
                    self._give_way(held)
            except OSError as error:
                _log.warning("%s: its state cannot be read (%s)", held.path, error)

    def _give_way(self, held: Held) -> None:
        size = held.identity.size
        try:
            if held.leased and self._available() >= HEADROOM * size:
                ranges = written_ranges(held.address, size)
                remap.into_ram(held.address, size, held.descriptor or 0, ranges)
                held.standing = Standing.RAM
        except (OSError, MemoryError) as error:
            _log.warning("%s: its old bytes cannot be kept in RAM (%s)", held.path, error)
        if held.standing is Standing.RAM and held.identity.is_still(held.descriptor or 0):
            said = "%s is being written over while in use; its old bytes are in RAM as long as it is (%s)"
            _log.warning(said, held.path, in_words(size))
        else:
            held.standing = Standing.LOST
            remap.into_zeros(held.address, size)
            said = "%s was written over while in use; what still needs its old bytes is built anew"
            _log.warning(said, held.path)
        for told in self._told:
            method = told()
            try:
                if method is not None:
                    method(held.identity)
            except Exception as error:  # the writer must not wait for ever
                _log.warning("%s: who reads it is not told (%s)", held.path, error)
        if held.leased and held.descriptor is not None:
            lease.release(held.descriptor)
