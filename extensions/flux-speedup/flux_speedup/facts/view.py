"""What the tab, the settings section and the API may see and do: the contract between them and the app."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..patching.table import Outcome
from ..stats.events import NEWEST, Event, Query, Totals
from ..stats.first_image import FirstImage
from ..stats.machine import Machine, Measuring, Savings
from ..stats.requests import Request

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
    """What is not loaded. summary: one line; starts: "start 18.7 s -> 11.6 s" or "".

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
class FormUse:
    """Weights of a component that have one form and go one way to the device.

    form: "bf16", "GGUF Q8_0", "NF4". way: "file", "file, made on the card", "RAM" or "WebUI". why: for the last.
    """

    component: str
    form: str
    way: str
    count: int
    bytes: int
    why: str = ""


@dataclass(frozen=True)
class Model:
    """A built checkpoint. key: for `drop`. where: "in use", "kept". bytes: in files, on the device, in RAM."""

    key: str
    name: str
    where: str
    file_bytes: int
    device_bytes: int
    ram_bytes: int
    forms: tuple[FormUse, ...] = ()


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


@dataclass(frozen=True)
class Start:
    """One start of the WebUI: seconds as it timed itself; what: what was in force, "" where nothing was."""

    at: float
    seconds: float
    what: str


@dataclass(frozen=True)
class LocalWeight:
    """A detector or upscaler weight. state: "found", "missing", "redirected", "downloaded" or "refused"."""

    name: str
    kind: str
    state: str
    path: str
    size: int
    why: str


class Refused(RuntimeError):
    """An action cannot be done now; the message says why, for people."""


class View(Protocol):
    """Reads: cheap, and safe from any thread. What can be done is in `control.acts`."""

    def status(self) -> Status: ...

    def events(self, asked: Query = NEWEST) -> list[Event]: ...

    def totals(self) -> Totals: ...

    def config(self) -> list[ConfigRow]: ...

    def left_out(self) -> LeftOut:
        """What is not loaded in this process, and what the WebUI's own list has of it."""
        ...

    def requests(self, limit: int = 20) -> list[Request]:
        """The newest requests, newest first, of all processes; one still running comes first."""
        ...

    def newest_here(self) -> Request | None:
        """The newest request of this process."""
        ...

    def savings(self) -> Savings: ...

    def first_image(self) -> FirstImage | None:
        """What the first image of this process waited for, once it is made."""
        ...

    def memory(self) -> MemoryUse: ...

    def models(self) -> list[Model]:
        """Built checkpoints, the one in use first."""
        ...

    def checkpoints(self) -> list[Checkpoint]:
        """All that the WebUI lists, the nearest to the next image first: a few milliseconds."""
        ...

    def starts(self) -> list[Start]:
        """Recorded starts of the WebUI on this machine, newest first."""
        ...

    def local_weights(self) -> list[LocalWeight]: ...

    def log_lines(self, limit: int = 20) -> list[str]:
        """The newest lines of the extension's log, oldest first."""
        ...

    def machine(self) -> Machine | None:
        """The newest measurement of this machine."""
        ...

    def measuring(self) -> Measuring: ...

    def refresh_seconds(self) -> float:
        """How often the tab refreshes itself; 0 for never."""
        ...

    def bug_report(self) -> str:
        """Versions, status, configuration and the newest figures, without paths, names or prompts."""
        ...
