"""The files that are registered, in whole or in part, and who uses each right now."""

from __future__ import annotations

import itertools
import mmap
import threading
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from ...ram import Hold
from ..files.mapping import FileIdentity, Mapping
from .registration import Registered


@dataclass(eq=False)
class HeldFile:
    """`buffer`: of an ordinary mapping of the file; with the last one's end this ends. `used`: when, in the order
    of uses. `claimed`: numbers of pieces that are registered, or may be: `holds` is the RAM set aside for them.
    """

    identity: FileIdentity
    buffer: weakref.ref[mmap.mmap]
    memory: Registered
    used: int
    holds: list[Hold]
    users: int = 0
    claimed: set[int] = field(default_factory=set)


class HeldFiles:
    """By identity. Safe from any thread. Whoever takes a file out of the table is the one to release it."""

    def __init__(
        self,
        mapped: Callable[[FileIdentity], Mapping | None] = lambda _: None,
        ended: Callable[[HeldFile], object] | None = None,
    ) -> None:
        """`mapped`: a mapping of a file that lives, if there is one. `ended`: told of a file of which none does any
        more, to release it; without one it is at once. Neither may take a lock.
        """
        self._mapped = mapped
        self._ended = ended or _release
        self._held: dict[int, HeldFile] = {}
        self._counter = itertools.count()
        self._lock = threading.Lock()  # users and times of use; nothing slow in here

    def __bool__(self) -> bool:
        return bool(self._held)

    def all(self) -> list[HeldFile]:
        return list(self._held.values())

    def begun(self, identity: FileIdentity) -> HeldFile | None:
        """The file, perhaps registered in part only."""
        return next((held for held in self.all() if held.identity == identity), None)

    def whole(self, identity: FileIdentity) -> HeldFile | None:
        """The file, if every byte of it is registered."""
        held = self.begun(identity)
        return held if held is not None and held.memory.whole else None

    def add(self, mapping: Mapping, memory: Registered, holds: list[Hold]) -> HeldFile:
        """From here on it is released with the last view of the last mapping of the file."""
        token = next(self._counter)
        held = HeldFile(mapping.identity, weakref.ref(mapping.buffer), memory, next(self._counter), holds)
        self._follow(token, held, mapping)
        self._held[token] = held
        return held

    def borrow(self, identities: Iterable[FileIdentity]) -> dict[FileIdentity, tuple[HeldFile, mmap.mmap]]:
        """Those of which something is registered: nothing of it is released before `give_back`."""
        taken: dict[FileIdentity, tuple[HeldFile, mmap.mmap]] = {}
        with self._lock:
            for identity in identities:
                held = self.begun(identity)
                buffer = None if held is None else held.buffer()  # kept: so its finalizer cannot run
                if held is not None and buffer is not None:
                    held.users, held.used = held.users + 1, next(self._counter)
                    taken[identity] = held, buffer
        return taken

    def give_back(self, taken: dict[FileIdentity, tuple[HeldFile, mmap.mmap]]) -> None:
        """Once for each `borrow`; `taken` is empty after that."""
        with self._lock:
            for held, _ in taken.values():
                held.users -= 1
            left = [held for held, _ in taken.values() if not held.users and held not in self.all()]
        for held in left:  # let go while it was lent
            held.memory.release()
        taken.clear()

    def let_go(self, held: HeldFile) -> None:
        """Its pages can be evicted again; where somebody uses them, once that ends."""
        with self._lock:
            token = next((token for token, one in list(self._held.items()) if one is held), None)
            mine = token is not None and self._held.pop(token, None) is held and not held.users
        if mine:
            held.memory.release()

    def let_oldest_go(self, identity: FileIdentity | None = None) -> HeldFile | None:
        """The file that was used longest ago and by nobody now, if there is one. `identity`: this one or none."""
        with self._lock:
            asked = [one for one in list(self._held.items()) if identity in (None, one[1].identity)]
            idle = sorted((held.used, token) for token, held in asked if not held.users)
            gone = next((held for _, token in idle if (held := self._held.pop(token, None))), None)
        if gone is not None:
            gone.memory.release()
        return gone

    def _follow(self, token: int, held: HeldFile, mapping: Mapping) -> None:
        held.buffer = weakref.ref(mapping.buffer)
        weakref.finalize(mapping.buffer, self._forget, token).atexit = False

    def _forget(self, token: int) -> None:
        # Runs wherever the last view dies, perhaps inside one of our own calls: it takes no lock. Nobody has
        # the file on loan then.
        held = self._held.get(token)
        other = None if held is None else self._mapped(held.identity)
        if held is not None and other is not None:
            with suppress(Exception):
                self._follow(token, held, other)
                return
        if held is not None and self._held.pop(token, None) is not None:
            self._ended(held)


def _release(held: HeldFile) -> None:
    held.memory.release()
