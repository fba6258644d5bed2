"""The ledger of what this process holds in RAM so that nobody can evict it: registered files, pinned memory.

All of it counts together, whoever holds it, so that two of ours cannot take the same RAM.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

from .free import Free, read

HALF = 0.5
SHORT = 1 / 8
"""Of all the RAM: with less free than that, nothing is held for speed alone."""


class Hold:
    """Some bytes in a ledger. `release` takes no lock: finalizers call it, wherever the last user dies."""

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

    def room(self, share: float = HALF) -> int:
        """Bytes that may still be held, so that all held together is `share` of what there would be without."""
        free, held = self.free(), self.bytes
        return max(0, int((free.available + held) * share) - held) if free is not None else 0

    def take(self, size: int, share: float = HALF, *, of_file: bool = False) -> Hold | None:
        """Note, before they are, that `size` bytes are held; None where there is no `room` for them.

        `of_file`: pages of a file in the page cache; else memory of the process. Whoever takes, releases.
        """
        with self._taking:
            return self.note(size, of_file=of_file) if size <= self.room(share) else None

    def note(self, size: int, *, of_file: bool = False) -> Hold:
        """The same for what is held in any case."""
        return Hold(self._holds, next(self._tokens), size, of_file)


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
