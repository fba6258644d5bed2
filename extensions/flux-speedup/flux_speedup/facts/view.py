"""What the tab, the settings section and the API show, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from ..patching.table import Outcome

Value = str | int | float | bool | None


@dataclass(frozen=True)
class ConfigRow:
    """One configuration key as it is in force, the source that won, and what is known of the setting.

    allowed: its values, in words. private: for no bug report.
    """

    key: str
    value: Value
    source: str
    default: Value = None
    allowed: str = ""
    group: str = ""
    help: str = ""
    hosts: tuple[str, ...] = ()
    restart: bool = False
    private: bool = False


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
    """What is not loaded. summary: one line; starts: "18.7 s before, 11.6 s now" or "".

    can_disable: extensions that the button would add to the WebUI's own list; disabled: those it added;
    why_not: why it may not, or "".
    """

    summary: str = ""
    starts: str = ""
    can_disable: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()
    why_not: str = ""


@dataclass(frozen=True)
class StreamedUse:
    """A model of which a part comes while it computes, in bytes.

    resident: what stays on the device. coming: what comes at each pass. ring: memory on the device that it comes
    through; held: of this, what is taken now. source: where it comes from, in words.
    """

    component: str
    resident: int
    coming: int
    ring: int
    held: int
    source: str


@dataclass(frozen=True)
class MemoryUse:
    """Where memory is right now, in bytes; None where it cannot be known here.

    vram_by_model: (component, bytes) of what we know on the device; vram_used, vram_total: the whole card.
    page_cache: pages of mapped weight files in RAM. anonymous: this process's own memory. pinned: staging and
    registered memory of ours; registered: of it, pages of files. ram_available, ram_total: the machine's (or the
    container's) RAM. streamed: models of which a part streams. inference: what the WebUI keeps free on the card
    for computing.
    """

    vram_by_model: tuple[tuple[str, int], ...] = ()
    vram_used: int | None = None
    vram_total: int | None = None
    page_cache: int | None = None
    anonymous: int | None = None
    pinned: int | None = None
    ram_available: int | None = None
    ram_total: int | None = None
    streamed: tuple[StreamedUse, ...] = ()
    inference: int | None = None
    registered: int | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that the WebUI lists, for whoever chooses among several WebUIs.

    names: all that a request may call it. where: "card" (in use, its weights where they are computed with), "kept"
    (built, its weights not there), "page cache" (most of its file) or "disk". cached: the share of its file that is
    in the page cache, None where the system does not say. seconds: until it is on the card, estimated; None where
    nothing was measured or moved yet.
    """

    names: tuple[str, ...]
    where: str
    bytes: int
    cached: float | None
    seconds: float | None
