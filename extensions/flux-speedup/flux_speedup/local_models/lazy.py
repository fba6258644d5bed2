"""The local weights of a process, made when they are first asked for: preload must not pay for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..configuration.config import Source

if TYPE_CHECKING:
    from .redirect import LocalModels
    from .resolve import Places


class LazyLocalModels:
    """Call it for the `LocalModels`. ADetailer asks from several threads at once."""

    def __init__(self, places: Places, kept: Callable[[], Path | None], say: Callable[[str], None]) -> None:
        """`places`: the WebUI's folders by kind; `kept`: the file for digests; `say` is told what is wrong."""
        self._places = places
        self._kept = kept
        self._say = say
        self._making = threading.Lock()
        self._sources: tuple[Source, ...] = ()
        self._made: LocalModels | None = None

    def configure(self, sources: Sequence[Source]) -> None:
        """Made anew from these when asked next."""
        with self._making:
            self._sources, self._made = tuple(sources), None

    def __call__(self) -> LocalModels:
        with self._making:
            if self._made is None:
                from .redirect import made

                self._made = made(self._sources, self._places, self._kept())
                for problem in self._made.catalog.problems:
                    self._say(problem)
            return self._made
