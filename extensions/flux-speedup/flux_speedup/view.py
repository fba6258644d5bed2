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


@dataclass(frozen=True)
class LeftOut:
    """What is not loaded. summary: one line; starts: "start 18.7 s -> 11.6 s" or "".

    can_disable: extensions that the button would add to the WebUI's own list; disabled: those it added;
    why_not: why it may not, or "".
    """

    summary: str = ""
    starts: str = ""
    can_disable: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()
    why_not: str = ""


class View(Protocol):
    """Reads are cheap and safe from any thread; the writes change the host at once."""

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

    def left_out(self) -> LeftOut:
        """What is not loaded in this process, and what the WebUI's own list has of it."""
        ...

    def disable_left_out(self) -> str:
        """Add what is left out to the WebUI's own list of disabled extensions; a sentence that says what was."""
        ...

    def undo_disabled(self) -> str:
        """Take what `disable_left_out` added from the WebUI's list again; a sentence that says what was."""
        ...
