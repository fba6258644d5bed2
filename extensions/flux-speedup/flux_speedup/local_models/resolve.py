"""Where a weight of the catalog lies on this machine: the Hugging Face cache, its own folder, the WebUI's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .catalog import Catalog, Entry
from .digests import Digests
from .examine import Refused, Usable, examine

MOST_FOLDERS = 500
Places = Callable[[str], Sequence[Path]]
"""The WebUI's folders for a kind of weight, the first one first."""
Hub = Callable[[str, str], "tuple[Path, str] | None"]
"""See `hub.cached`."""


@dataclass(frozen=True)
class Found:
    """What was found: the file to use, if any, and the files that are there and are not used."""

    usable: Usable | None
    refused: tuple[Refused, ...]


class Resolver:
    """Looks for weights anew each time, as files come and go; only digests are remembered. Thread safe."""

    def __init__(self, catalog: Catalog, places: Places, digests: Digests, hub: Hub) -> None:
        self._catalog = catalog
        self._places = places
        self._digests = digests
        self._hub = hub

    def find(self, entry: Entry, extra: Sequence[Path] = (), *, hashing: bool = True) -> Found:
        """The first file that is surely right, else the first that may be used.

        In this order: `extra`, which are the folders that the caller itself would look into, the Hugging Face
        cache, the catalog's folder, the WebUI's folders.
        """
        refused: list[Refused] = []
        maybe: Usable | None = None
        for root, relative in self._candidates(entry, extra):
            verdict = examine(root, relative, entry, self._digests, hashing=hashing)
            if isinstance(verdict, Refused):
                refused.append(verdict)
            elif verdict is not None and verdict.sure:
                return Found(verdict, tuple(refused))
            elif verdict is not None and maybe is None:
                maybe = verdict
        return Found(maybe, tuple(refused))

    def _candidates(self, entry: Entry, extra: Sequence[Path]) -> Iterator[tuple[Path, str]]:
        for folder in extra:
            yield folder, entry.file
        cached = self._hub(entry.repo, entry.repo_file or entry.file) if entry.repo else None
        if cached is not None:
            yield cached
        own = self._catalog.folder
        if own is not None:
            yield own / entry.folder, entry.file
            yield own, entry.file
        seen: set[Path] = set()
        for place in self._places(entry.kind):
            if place not in seen:
                seen.add(place)
                yield from ((place, relative) for relative in below(place, entry.file))


def below(place: Path, file: str) -> Iterable[str]:
    """The file in `place` itself, then in the folders below it, where the WebUI and ADetailer look as well."""
    yield file
    walk = os.walk(place)
    for _, (folder, folders, files) in zip(range(MOST_FOLDERS), walk, strict=False):
        folders.sort()
        inside = Path(folder).relative_to(place)
        if file in files and inside.parts:
            yield (inside / file).as_posix()
