"""Files that are mapped before anybody views them: what is registered of a file lives only while it is mapped."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ..errors import WeightsError
from .header import no_header, read_header
from .mapping import FileIdentity, Mapping, Registry


class Beforehand:
    """Mappings that are kept until the first load comes, which has its own. Safe from any thread.

    Sooner each goes where its file is written over, deleted or replaced, and all where another model is selected.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._over = False
        self._still: Callable[[], bool] = lambda: True

    def keep(self, paths: Iterable[Path], still: Callable[[], bool]) -> list[FileIdentity]:
        """Map these, but what can be mapped by nobody or is already; call `look` now and then from here on.

        `still`: whether they are those that the first load will read. Once it has come, nothing is kept any more.
        """
        self._still = still
        kept: list[FileIdentity] = []
        for path in paths if not self._over else ():
            try:
                mapping = self._registry.open(
                    path, read_header if path.suffix == ".safetensors" else no_header
                )
            except WeightsError:  # whoever loads it says why
                continue
            if [each.identity for each in self._registry.live()].count(mapping.identity) == 1:
                self._registry.kept[mapping.identity] = mapping
                kept.append(mapping.identity)
        return kept

    def end(self) -> None:
        """The first load has come, or there is to be none: at the next `look` all of them go."""
        self._over = True

    def look(self) -> bool:
        """Let go what is not needed any more; whether anything is kept still."""
        kept = self._registry.kept
        if kept and (self._over or not self._still()):
            self._over = True
            kept.clear()
        for identity, mapping in list(kept.items()):
            if not _is_there(mapping):
                kept.pop(identity, None)
        return bool(kept)


def _is_there(mapping: Mapping) -> bool:
    try:
        found = mapping.path.stat()
    except OSError:
        return False
    same = mapping.identity.inode in (0, found.st_ino)
    return same and mapping.identity.has_times_of(found)
