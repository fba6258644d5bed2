"""What the tab, the settings section and the API may see and do: the contract between them and the app."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .patches import Outcome
from .stats.events import Event, Totals

Value = str | int | float | bool | None


@dataclass(frozen=True)
class ConfigRow:
    """One configuration key as it is in force, and the source that won."""

    key: str
    value: Value
    source: str


@dataclass(frozen=True)
class Status:
    """What the extension is doing in this process right now."""

    version: str
    host: str
    enabled: bool
    card: str
    tier: str
    tier_why: str
    simulated: bool
    outcomes: tuple[Outcome, ...]


class View(Protocol):
    """Reads are cheap and safe from any thread; the two writes change the host at once."""

    def status(self) -> Status: ...

    def events(
        self, *, since: float | None = None, kind: str | None = None, limit: int = 100, offset: int = 0
    ) -> list[Event]: ...

    def totals(self) -> Totals: ...

    def config(self) -> list[ConfigRow]: ...

    def keep_only(self, items: Sequence[str]) -> Status:
        """Leave only `items` in force; every other applied change is put back now."""
        ...

    def put_everything_back(self) -> Status:
        """Undo every change in this process; the next start applies them again."""
        ...
