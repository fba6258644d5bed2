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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from ...ram import HALF, HELD, Held, Hold
from ..files.mapping import MAPPINGS, FileIdentity, Mapping, Registry
from ..files.span import Span
from .item import Item
from .registration import CUDA, Registrar, Registration

_log = logging.getLogger("flux_speedup")

Straight = dict[int, tuple[torch.Tensor, ...]]
"""Item number -> its bytes, in pieces that each lie in one registration; in the order of the files."""


@dataclass(eq=False)
class _Held:
    identity: FileIdentity
    buffer: weakref.ref[mmap.mmap]  # of the ordinary mapping, whose end is ours
    registration: Registration
    hold: Hold
    used: int
    users: int = 0

    def release(self) -> None:
        """Its pages can be evicted again. Takes no lock."""
        self.registration.release()
        self.hold.release()


class Direct:
    """Registered files by identity. Safe from any thread; a load never waits for a registration."""

    def __init__(
        self,
        registry: Registry = MAPPINGS,
        *,
        registrar: Registrar = CUDA,
        held: Held = HELD,
        kinds: frozenset[str] = frozenset({"cuda"}),
        share: float = HALF,
    ) -> None:
        """All that is in the ledger `held`, whoever's it is, is at most `share` of the RAM, or nothing is added.

        `kinds`: of devices that read what is registered. With a `share` of 0 nothing more is ever held.
        """
        self.share = share
        self._registry = registry
        self._registrar = registrar
        self._ledger = held
        self._kinds = kinds
        self._held: dict[int, _Held] = {}
        self._failed: set[FileIdentity] = set()
        self._tokens = itertools.count()
        self._clock = itertools.count()
        self._changing = threading.Lock()  # one registration at a time; taken before `_lock`
        self._lock = threading.Lock()  # users and times of use; nothing slow in here

    @property
    def bytes(self) -> int:
        """Bytes that are registered now."""
        return sum(held.identity.size for held in list(self._held.values()))

    def hold(self, mapping: Mapping) -> bool:
        """Whether the file is registered now: its whole size cannot be evicted until it is released.

        False, and nothing changed, where there is no room or the system cannot; a file that failed is not
        tried again.
        """
        with self._changing:
            identity = mapping.identity
            if self._of(identity) is not None:
                return True
            hold = None if identity in self._failed else self._make_room(identity.size)
            if hold is None:
                return False
            try:
                registration = Registration.of(self._registry, identity, self._registrar)
            except Exception as error:  # only a faster way: whatever it is, loads go on without it
                hold.release()
                self._failed.add(identity)
                _log.info("%s: not read directly (%s); going on through staging", mapping.path, error)
                return False
            token = next(self._tokens)
            self._held[token] = _Held(
                identity, weakref.ref(mapping.buffer), registration, hold, next(self._clock)
            )
            weakref.finalize(mapping.buffer, self._forget, token).atexit = False
            return True

    def hold_soon(self, identities: Iterable[FileIdentity], device: torch.device) -> threading.Thread | None:
        """`hold` in the background, where the device is of a kind that can; None where nothing is to do."""
        if device.type not in self._kinds or not self.share:
            return None
        new = [one for one in identities if one not in self._failed and self._of(one) is None]
        if not new:
            return None
        thread = threading.Thread(
            target=self._hold_all, args=(new, device), name="flux-speedup-direct", daemon=True
        )
        thread.start()
        return thread

    def source(self, identity: FileIdentity) -> torch.Tensor | None:
        """All bytes of a held file, never to be written; registered for as long as nobody releases it."""
        held = self._of(identity)
        return None if held is None else held.registration.whole

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
                    straight[number] = held.registration.bytes_at(span.offset, span.length)
            yield straight
        finally:
            straight.clear()
            with self._lock:
                for held, _ in taken.values():
                    held.users -= 1
                left = [h for h, _ in taken.values() if not h.users and h not in self._held.values()]
            for held in left:  # released while it was lent
                held.release()
            taken.clear()

    def release_all(self) -> None:
        """Every page can be evicted again; what a load uses right now, once it ends."""
        with self._changing:
            self._let_go(list(self._held), in_use=True)

    def _of(self, identity: FileIdentity) -> _Held | None:
        return next((held for held in list(self._held.values()) if held.identity == identity), None)

    def _hold_all(self, identities: Sequence[FileIdentity], device: torch.device) -> None:
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            for identity in identities:
                mapping = self._registry.of(identity)
                if mapping is not None:
                    self.hold(mapping)

    def _make_room(self, size: int) -> Hold | None:
        """Room for so much, once what was used longest ago, and by no load now, is released."""
        with self._lock:
            idle = sorted((h.used, token, h) for token, h in list(self._held.items()) if not h.users)
        room, chosen = self._ledger.room(self.share), []
        for _, token, held in idle:
            if room < size:
                chosen.append(token)
                room += held.identity.size
        if room < size:
            return None
        self._let_go(chosen, in_use=False)
        return self._ledger.take(size, self.share, of_file=True)

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
            held.release()

    def _forget(self, token: int) -> None:
        # Runs wherever the last view dies, perhaps inside one of our own calls: it takes no lock. Nobody has
        # the file on loan then, and whoever takes it out of the table is the one to release it.
        held = self._held.pop(token, None)
        if held is not None:
            held.release()
