"""What a load is to bring, looked at in two parts: the second while the first is on its way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ..files.identity import FileIdentity
from ..files.mapping import Registry
from .going import Departure, departures, files_of, source_of
from .roster import Entry
from .state import AtHome


class Looking:
    """`entries`: all that was looked at; `going`: those at home. Since `rest`: `files` that are to be read, and
    `source`, where their bytes were then.
    """

    def __init__(self, entries: Iterator[Entry], registry: Registry) -> None:
        """`entries`: each looked at only when it is asked for."""
        self._left = entries
        self._registry = registry
        self.entries: list[Entry] = []
        self.going: list[Departure] = []
        self.files: dict[FileIdentity, Path] = {}
        self.source = ""

    def first(self, most: int) -> list[Departure]:
        """About so many bytes of those at home. Raises TransferError where old bytes are gone, as `rest` does."""
        return self._look(_until(most, self._left))

    def rest(self) -> list[Departure]:
        """The others at home."""
        found = self._look(self._left)
        self.files = files_of(self.going)
        self.source = source_of(self.files.values())  # now, as readers leave every file in the page cache
        return found

    def _look(self, entries: Iterable[Entry]) -> list[Departure]:
        part = list(entries)
        found = departures(part, self._registry)
        self.entries += part
        self.going += found
        return found


def _until(most: int, entries: Iterator[Entry]) -> Iterator[Entry]:
    for entry in entries:
        yield entry
        most -= entry.tensor.nbytes if isinstance(entry.state, AtHome) else 0
        if most <= 0:
            return
