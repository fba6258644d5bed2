"""What a load is to bring, looked at part by part: each while those before it are on their way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..files.identity import FileIdentity
from ..files.looks import Looks
from ..files.mapping import Registry
from .going import Departure, departures, files_of, source_of
from .roster import Entry
from .state import AtHome


class Looking:
    """`entries`: all that was looked at; `going`: those at home. Once there are no more: `files` that are to be
    read, and `source`, where their bytes were then.
    """

    def __init__(self, entries: Iterator[Entry], registry: Registry, first: int) -> None:
        """`entries`: each looked at only when it is asked for. `first`: bytes of the first part."""
        self._left = entries
        self._registry = registry
        self._most = first
        self._looks = Looks()
        self.entries: list[Entry] = []
        self.going: list[Departure] = []
        self.files: dict[FileIdentity, Path] = {}
        self.source = ""

    def part(self) -> list[Departure]:
        """The next ones at home, about twice as many bytes as the last time; none: that was all.

        Raises TransferError where old bytes are gone.
        """
        part = list(_until(self._most, self._left))
        found = departures(part, self._registry, self._looks)
        self._most *= 2
        self.entries += part
        self.going += found
        if not found:
            self.files = files_of(self.going)
            self.source = source_of(self.files.values())  # now, as readers leave every file in the page cache
        return found


def _until(most: int, entries: Iterator[Entry]) -> Iterator[Entry]:
    for entry in entries:
        yield entry
        most -= entry.tensor.nbytes if isinstance(entry.state, AtHome) else 0
        if most <= 0:
            return
