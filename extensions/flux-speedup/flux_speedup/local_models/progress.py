"""Progress on the terminal: tqdm's bars where it is installed, a line now and then where it is not."""

from __future__ import annotations

import sys
import threading
from typing import Any

from ..stats.report import size

_lock = threading.Lock()


class Bar:
    """One weight's progress on stderr. Used by one thread at a time; `close` at the end."""

    def __init__(self, name: str, position: int, *, quiet: bool = False) -> None:
        self._name = name
        self._position = position
        self._tqdm: Any = None if quiet else _tqdm()
        self._bar: Any = None
        self._tenth = -1
        self._quiet = quiet

    def at(self, now: int, whole: int | None) -> None:
        """So many bytes are there, of so many."""
        if self._tqdm is None:
            self._line(now, whole)
            return
        if self._bar is None:
            self._bar = self._tqdm(
                total=whole, initial=now, desc=self._name, position=self._position, unit="B", unit_scale=True,
                leave=False, file=sys.stderr,
            )  # fmt: skip
        self._bar.update(now - self._bar.n)

    def say(self, words: str) -> None:
        """A line of its own."""
        if not self._quiet:
            with _lock:
                sys.stderr.write(f"{self._name}: {words}\n")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _line(self, now: int, whole: int | None) -> None:
        tenth = now * 10 // whole if whole else now >> 24
        if tenth > self._tenth:
            self._tenth = tenth
            self.say(size(now) + (f" of {size(whole)}" if whole else ""))


def _tqdm() -> Any:
    try:
        from tqdm import tqdm  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError:
        return None
    return tqdm if sys.stderr is not None and sys.stderr.isatty() else None
