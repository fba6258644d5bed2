"""Files that the GPU reads straight from the page cache: a second, read-only mapping, registered with CUDA.

Pages that are registered cannot be evicted, by nobody and for nothing: a held file takes its size of RAM until
it is released. So there is a limit, and a file is held only while its ordinary mapping lives.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import mmap
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from ...ram import HALF, HELD, Held
from ...stats.report import size
from ..files.mapping import MAPPINGS, FileIdentity, Mapping, Registry
from ..files.pagecache import resident_fraction
from ..files.span import Span
from .idle import QUIET_S, WhileIdle, nobody
from .item import Item
from .registration import CUDA, Registered, Registrar, map_shared

WARM = 0.95
SHORT = 1 / 8  # of all the RAM: with less free than that, nothing is held for speed alone
_log = logging.getLogger("flux_speedup")

Straight = dict[int, tuple[torch.Tensor, ...]]
"""Item number -> its bytes, in pieces that each lie in one registration; in the order of the files."""


def is_warm(path: Path) -> bool:
    """Whether its pages are in RAM, as far as anybody can say."""
    fraction = resident_fraction(path)
    return fraction is None or fraction >= WARM


@dataclass(eq=False)
class _Held:
    identity: FileIdentity
    buffer: weakref.ref[mmap.mmap]  # of the ordinary mapping, whose end is ours
    memory: Registered
    used: int
    users: int = 0


class Direct:
    """Registered files by identity. Safe from any thread; a load never waits for a registration.

    What is held is kept: no file is let go for another one, only for want of RAM, and then for good. So two
    models that take turns do not push each other out.
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
    ) -> None:
        """All that is in the ledger `held`, whoever's it is, is at most `share` of the RAM, or nothing is added.

        `kinds`: of devices that read what is registered. With a `share` of 0 nothing more is ever held. `busy`:
        whether somebody computes; in the background files are registered only while nobody does, and only
        ones that are `warm`: reading them in would take as long as the disk does.
        """
        self.share = share
        self._registry = registry
        self._registrar = registrar
        self._ledger = held
        self._kinds = kinds
        self._warm = warm
        self._held: dict[int, _Held] = {}
        self._failed: set[FileIdentity] = set()
        self._tokens = itertools.count()
        self._clock = itertools.count()
        self._changing = threading.Lock()  # one registration at a time; taken before `_lock`
        self._lock = threading.Lock()  # users and times of use; nothing slow in here
        self._idle = WhileIdle(busy, self.relieve, quiet_s)

    @property
    def bytes(self) -> int:
        """Bytes that are registered now."""
        return sum(held.memory.registered for held in list(self._held.values()))

    def hold(self, mapping: Mapping, share: float | None = None) -> bool:
        """Whether the file is registered now: its whole size cannot be evicted until it is released.

        `share`: in place of the one for all files. False, and nothing changed, where there is no room or the
        system cannot; a file that failed is not tried again.
        """
        while not self._advance(mapping, share):
            pass
        return self._of(mapping.identity) is not None

    def hold_soon(self, identities: Iterable[FileIdentity], device: torch.device) -> None:
        """`hold` in the background, as soon as nobody computes, where the device is of a kind that can."""
        self._idle.stir()
        if device.type not in self._kinds or not self.share:
            return
        for one in identities:
            if one not in self._failed and self._of(one) is None:
                self._idle.add(one, partial(self._step, one, device))

    def source(self, identity: FileIdentity) -> torch.Tensor | None:
        """All bytes of a held file, never to be written; registered for as long as nobody releases it."""
        held = self._of(identity)
        return None if held is None else held.memory.all_bytes()

    def pieces(self, span: Span) -> tuple[torch.Tensor, ...] | None:
        """The bytes of a span of a held file, in pieces that each lie in one registration; see `source`."""
        held = self._of(span.identity)
        return None if held is None else held.memory.bytes_at(span.offset, span.length)

    def relieve(self) -> bool:
        """Let files go while RAM is short, what was used longest ago first; whether any is held still."""
        with self._changing:
            while self._held and self._is_short():
                with self._lock:
                    idle = sorted((h.used, token) for token, h in list(self._held.items()) if not h.users)
                if not idle:
                    break
                held = self._held.get(idle[0][1])
                if held is not None:
                    self._failed.add(held.identity)
                    _log.info(
                        "RAM is short: a file of %s is not held for the GPU any longer",
                        size(held.memory.size),
                    )
                self._let_go([idle[0][1]], in_use=False)
            return bool(self._held)

    @contextlib.contextmanager
    def lend(self, items: Sequence[Item]) -> Iterator[Straight]:
        """What of a load can go straight: what is not cast, of files that are held. None of them is released."""
        taken: dict[FileIdentity, tuple[_Held, mmap.mmap]] = {}
        straight: Straight = {}
        spans = [(n, i.origin) for n, i in enumerate(items) if isinstance(i.origin, Span) and not i.cast]
        with self._lock:
            for identity in {span.identity for _, span in spans}:
                held = self._of(identity)
                buffer = None if held is None else held.buffer()  # kept: so its finalizer cannot run
                if held is not None and buffer is not None:
                    held.users, held.used = held.users + 1, next(self._clock)
                    taken[identity] = held, buffer
        try:
            for number, span in sorted(spans, key=lambda one: (one[1].identity.inode, one[1].offset)):
                if span.identity in taken:
                    held, _ = taken[span.identity]
                    straight[number] = held.memory.bytes_at(span.offset, span.length)
            yield straight
        finally:
            straight.clear()
            with self._lock:
                for held, _ in taken.values():
                    held.users -= 1
                left = [h for h, _ in taken.values() if not h.users and h not in self._held.values()]
            for held in left:  # released while it was lent
                held.memory.release()
            taken.clear()

    def release_all(self) -> None:
        """Every page can be evicted again; what a load uses right now, once it ends."""
        self._idle.clear()
        with self._changing:
            self._let_go(list(self._held), in_use=True)

    def _of(self, identity: FileIdentity) -> _Held | None:
        held = self._begun(identity)
        return held if held is not None and held.memory.whole else None

    def _begun(self, identity: FileIdentity) -> _Held | None:
        return next((held for held in list(self._held.values()) if held.identity == identity), None)

    def _step(self, identity: FileIdentity, device: torch.device) -> bool:
        """One piece; whether nothing is left to do."""
        mapping = self._registry.of(identity)
        if mapping is None or (self._begun(identity) is None and not self._warm(mapping.path)):
            return True
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            return self._advance(mapping)

    def _advance(self, mapping: Mapping, share: float | None = None) -> bool:
        """Register one piece more of a file; whether nothing is left to do: it is held, or cannot be."""
        with self._changing:
            identity, held = mapping.identity, self._begun(mapping.identity)
            try:
                if held is None:
                    held = self._begin(mapping, self.share if share is None else share)
                return held is None or held.memory.register_next()
            except Exception as error:  # only a faster way: whatever it is, loads go on without it
                self._failed.add(identity)
                self._let_go([token for token, one in list(self._held.items()) if one is held], in_use=True)
                _log.info("%s: not read directly (%s); going on through staging", mapping.path, error)
                return True

    def _begin(self, mapping: Mapping, share: float) -> _Held | None:
        identity = mapping.identity
        hold = None if identity in self._failed else self._ledger.take(identity.size, share, of_file=True)
        if hold is None:
            return None
        try:
            buffer = map_shared(self._registry, identity)
        except BaseException:
            hold.release()
            raise
        memory = Registered(buffer, self._registrar, lambda _: hold.release())
        token = next(self._tokens)
        held = self._held[token] = _Held(identity, weakref.ref(mapping.buffer), memory, next(self._clock))
        weakref.finalize(mapping.buffer, self._forget, token).atexit = False
        return held

    def _is_short(self) -> bool:
        free = self._ledger.free()
        return free is not None and free.available < free.total * SHORT

    def _let_go(self, tokens: Sequence[int], *, in_use: bool) -> None:
        gone: list[_Held] = []
        with self._lock:
            for token in tokens:
                held = self._held.get(token)
                if held is None or (held.users and not in_use) or self._held.pop(token, None) is None:
                    continue
                if not held.users:
                    gone.append(held)  # else whoever uses it releases it
        for held in gone:
            held.memory.release()

    def _forget(self, token: int) -> None:
        # Runs wherever the last view dies, perhaps inside one of our own calls: it takes no lock. Nobody has
        # the file on loan then, and whoever takes it out of the table is the one to release it.
        held = self._held.pop(token, None)
        if held is not None:
            held.memory.release()
