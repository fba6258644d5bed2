"""Files that the GPU reads straight from the page cache: a second, read-only mapping, registered with CUDA.

Pages that are registered cannot be evicted, by nobody and for nothing: a held file takes its size of RAM until
it is released. So there is a limit, and a file is held only while its ordinary mapping lives.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...ram import HALF, HELD, Held
from ...stats.report import size
from ..files.mapping import MAPPINGS, FileIdentity, Mapping, Registry
from ..files.pagecache import resident_fraction
from ..files.span import Span
from .held_files import HeldFile, HeldFiles
from .idle import QUIET_S, WhileIdle, nobody
from .item import Item
from .registration import CUDA, Registered, Registrar, map_shared

WARM = 0.95
SETTLE_S = 0.05  # between asking for a piece and queueing its copy lie microseconds
_log = logging.getLogger("flux_speedup")

Straight = dict[int, tuple[torch.Tensor, ...]]
"""Item number -> its bytes, in pieces that each lie in one registration; in the order of the files."""


def is_warm(path: Path) -> bool:
    """Whether its pages are in RAM, as far as anybody can say."""
    fraction = resident_fraction(path)
    return fraction is None or fraction >= WARM


def copies_done() -> None:
    """Wait for what the devices have to do by now, and for whoever is about to give them more right now."""
    time.sleep(SETTLE_S)
    cuda: Any = torch.cuda
    if cuda.is_initialized():
        for number in range(cuda.device_count()):
            cuda.synchronize(number)


class Direct:
    """Registered files by identity. Safe from any thread; a load never waits for a registration.

    What is held is kept: no file is let go for another one, only for want of RAM, and then for good. So two
    models that take turns do not push each other out. `let_go` counts files that their users have to leave
    (written over, or everything released): whenever it has grown, ask for `pieces` anew.
    """

    def __init__(
        self,
        registry: Registry = MAPPINGS,
        *,
        registrar: Registrar = CUDA,
        held: Held = HELD,
        kinds: frozenset[str] = frozenset({"cuda"}),
        share: float = HALF,
        busy: Callable[[], bool] = nobody,
        warm: Callable[[Path], bool] = is_warm,
        quiet_s: float = QUIET_S,
        settle: Callable[[], None] = copies_done,
    ) -> None:
        """All that is in the ledger `held`, whoever's it is, is at most `share` of the RAM, or nothing is added.

        `kinds`: of devices that read what is registered. With a `share` of 0 nothing more is ever held. `busy`:
        whether somebody computes; in the background files are registered only while nobody does, and only
        ones that are `warm`: reading them in would take as long as the disk does. `settle` returns once every
        copy that was queued before is done.
        """
        self.share = share
        self._registry = registry
        self._registrar = registrar
        self._ledger = held
        self._kinds = kinds
        self._warm = warm
        self._files = HeldFiles()
        self._failed: set[FileIdentity] = set()
        self._changing = threading.Lock()  # one registration at a time
        self._idle = WhileIdle(busy, self.relieve, quiet_s)
        self._settle = settle
        self.let_go = 0
        registry.writers.tell(self._written_over)

    @property
    def bytes(self) -> int:
        """Bytes that are registered now."""
        return sum(held.memory.registered for held in self._files.all())

    def hold(self, mapping: Mapping, share: float | None = None) -> bool:
        """Whether the file is registered now: its whole size cannot be evicted until it is released.

        `share`: in place of the one for all files. False, and nothing changed, where there is no room or the
        system cannot; a file that failed is not tried again.
        """
        while not self._advance(mapping, share):
            pass
        return self._files.whole(mapping.identity) is not None

    def hold_soon(self, identities: Iterable[FileIdentity], device: torch.device) -> None:
        """`hold` in the background, as soon as nobody computes, where the device is of a kind that can."""
        self._idle.stir()
        if device.type not in self._kinds or not self.share:
            return
        for one in identities:
            if one not in self._failed and self._files.whole(one) is None:
                self._idle.add(one, partial(self._step, one, device))

    def source(self, identity: FileIdentity) -> torch.Tensor | None:
        """All bytes of a held file, never to be written; registered for as long as nobody releases it."""
        held = self._files.whole(identity)
        return None if held is None else held.memory.all_bytes()

    def pieces(self, span: Span) -> tuple[torch.Tensor, ...] | None:
        """The bytes of a span of a held file, in pieces that each lie in one registration; see `source`."""
        held = self._files.whole(span.identity)
        return None if held is None else held.memory.bytes_at(span.offset, span.length)

    def relieve(self) -> bool:
        """Let files go while RAM is short, what was used longest ago first; whether any is held still."""
        with self._changing:
            while self._ledger.is_short() and (gone := self._files.let_oldest_go()) is not None:
                self._failed.add(gone.identity)
                _log.info("RAM is short: %s of a weight file are not held any longer", size(gone.memory.size))
            return bool(self._files)

    @contextlib.contextmanager
    def lend(self, items: Sequence[Item]) -> Iterator[Straight]:
        """What of a load can go straight: what is in files that are held. None of them is released."""
        spans = [(n, i.origin) for n, i in enumerate(items) if isinstance(i.origin, Span)]
        taken = self._files.borrow({span.identity for _, span in spans})
        straight: Straight = {}
        try:
            for number, span in sorted(spans, key=lambda one: (one[1].identity.inode, one[1].offset)):
                if span.identity in taken:
                    held, _ = taken[span.identity]
                    straight[number] = held.memory.bytes_at(span.offset, span.length)
            yield straight
        finally:
            straight.clear()
            self._files.give_back(taken)

    def release_all(self) -> None:
        """Every page can be evicted again; what a load uses right now, once it ends."""
        self._idle.clear()
        with self._changing:
            for held in self._files.all():
                self._files.let_go(held)
            self.let_go += 1

    def _step(self, identity: FileIdentity, device: torch.device) -> bool:
        """One piece; whether nothing is left to do."""
        mapping = self._registry.of(identity)
        if mapping is None or (self._files.begun(identity) is None and not self._warm(mapping.path)):
            return True
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            return self._advance(mapping)

    def _advance(self, mapping: Mapping, share: float | None = None) -> bool:
        """Register one piece more of a file; whether nothing is left to do: it is held, or cannot be."""
        with self._changing:
            held = self._files.begun(mapping.identity)
            try:
                if held is None:
                    held = self._begin(mapping, self.share if share is None else share)
                return held is None or held.memory.register_next()
            except Exception as error:  # only a faster way: whatever it is, loads go on without it
                self._failed.add(mapping.identity)
                if held is not None:
                    self._files.let_go(held)
                _log.info("%s: not read directly (%s); going on through staging", mapping.path, error)
                return True

    def _begin(self, mapping: Mapping, share: float) -> HeldFile | None:
        identity = mapping.identity
        hold = None if identity in self._failed else self._ledger.take(identity.size, share, of_file=True)
        if hold is None:
            return None
        try:
            buffer = map_shared(self._registry, identity)
        except BaseException:
            hold.release()
            raise
        return self._files.add(mapping, Registered(buffer, self._registrar, lambda _: hold.release()))

    def _written_over(self, identity: FileIdentity) -> None:
        """Its pages are about to be others: nobody starts to read them, and whoever has started is waited for."""
        held = self._files.begun(identity)
        if held is not None:
            self._failed.add(identity)
            self._files.let_go(held)
            self.let_go += 1
            self._settle()
