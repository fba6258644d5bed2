"""The ledger of what this process holds in RAM so that nobody can evict it: registered files, pinned memory.

All of it counts together, whoever holds it, so that two of ours cannot take the same RAM. How much that may be is
said here, as rules.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass

from .free import Free, read


@dataclass(frozen=True)
class Rule:
    """`share`: of what would be free without all that is held, so much may be held, together.

    `spare`: so many times the size of what is added stays free beside all of it; such holds may give way to ones
    that follow a rule without.
    """

    share: float
    spare: float = 0.0


NOTHING = Rule(0.0)
HALF = Rule(0.5)
PLENTY = Rule(0.5, spare=2.0)
"""For what gains little: another such file still finds its place in the page cache, and others as much again."""
SHORT = 1 / 8
"""Of all the RAM: with less free than that, nothing is held for speed alone."""


class Hold:
    """Some bytes in a ledger. `release` takes no lock: finalizers call it, wherever the last user dies.

    `gives_way`: called where somebody has no room but for this, to release it if nobody uses it now; on any thread,
    with the ledger's lock.
    """

    gives_way: Callable[[], object] | None = None

    def __init__(self, ledger: dict[int, Hold], token: int, size: int, of_file: bool) -> None:
        self._ledger = ledger
        self._token = token
        self.size = size
        self.of_file = of_file
        ledger[token] = self

    def release(self) -> None:
        """The bytes are free again. A second time is nothing."""
        self._ledger.pop(self._token, None)


class Held:
    """What is held, in bytes. Safe from any thread."""

    def __init__(self, read: Callable[[int], Free | None] = read) -> None:
        """`read`: what is free, given how many bytes of file pages are held (`free.read`)."""
        self._read = read
        self._holds: dict[int, Hold] = {}
        self._tokens = itertools.count()
        self._taking = threading.Lock()

    @property
    def bytes(self) -> int:
        """All that is held."""
        return sum(hold.size for hold in list(self._holds.values()))

    @property
    def file_bytes(self) -> int:
        """Of that, pages of files, which the system itself takes for page cache that could go."""
        return sum(hold.size for hold in list(self._holds.values()) if hold.of_file)

    def free(self) -> Free | None:
        """RAM that can still be had beside all that is held; None where the system does not say."""
        return self._read(self.file_bytes)

    def is_short(self, share: float = SHORT, more: int = 0) -> bool:
        """Whether less than this share of all RAM is free, or will be once `more` bytes are taken: then what is
        held for speed alone should go.
        """
        free = self.free()
        return free is not None and free.available - more < free.total * share

    def room(self, rule: Rule = HALF) -> int:
        """Bytes that may still be held by the rule. What gives way does not count, but to what would itself."""
        free, held = self.free(), self.bytes
        if free is None:
            return 0
        room = int((free.available + held) * rule.share) - held
        spared = int(free.available / (1 + rule.spare))
        return max(0, min(room, spared) if rule.spare else room + self._giving())

    def take(self, size: int, rule: Rule = HALF, *, of_file: bool = False) -> Hold | None:
        """Note, before they are, that `size` bytes are held; None where there is no `room` for them.

        `of_file`: pages of a file in the page cache; else memory of the process. Whoever takes, releases.
        """
        with self._taking:
            room, giving = self.room(rule), self._giving if not rule.spare else int
            for hold in list(self._holds.values()) if size <= room else ():
                if size <= room - giving():
                    break
                if hold.gives_way is not None:
                    hold.gives_way()
            return self.note(size, of_file=of_file) if size <= room - giving() else None

    def note(self, size: int, *, of_file: bool = False) -> Hold:
        """The same for what is held in any case."""
        return Hold(self._holds, next(self._tokens), size, of_file)

    def _giving(self) -> int:
        return sum(hold.size for hold in list(self._holds.values()) if hold.gives_way is not None)


HELD = Held()
"""The ledger of this process."""


def available() -> int:
    """Bytes of RAM this process could use without swapping, whatever limits it; 0 where nobody can say."""
    free = HELD.free()
    return 0 if free is None else free.available


def available_and_total() -> tuple[int | None, int | None]:
    """The same, and all the RAM there is for this process; None where the system does not say."""
    free = HELD.free()
    return (None, None) if free is None else (free.available, free.total)
