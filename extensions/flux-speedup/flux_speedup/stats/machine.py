"""What this machine can do, as measured here, and what that makes of the seconds a load took."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """Limits and the WebUI's own load path, in GB/s (GB = 10^9 bytes); None where it was not measured.

    disk: a cold sequential read of a weight file. page_cache: reading it again. bus: pinned host memory to the
    device. host_load: the WebUI's own move of weights to the device. host_unload: its own move back.
    at: seconds since the epoch.
    """

    at: float
    device: str
    disk: float | None = None
    page_cache: float | None = None
    bus: float | None = None
    host_load: float | None = None
    host_unload: float | None = None


@dataclass(frozen=True)
class Savings:
    """Seconds that the WebUI's own way would have taken longer; `estimated` where this machine has no baseline.

    in_request: of the newest request, None where there was none. how: the rates it is computed with, as a
    sentence for people.
    """

    since_start: float
    in_request: float | None
    estimated: bool
    how: str


@dataclass(frozen=True)
class Measuring:
    """A measurement under way or ended. share: 0 to 1. state: "idle", "running", "done", "cancelled", "failed"."""

    state: str
    share: float = 0.0
    doing: str = ""
    why: str = ""
