"""What loads and unloads would have taken the WebUI's own way, less what they took. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .events import GB, Event
from .machine import Machine, Savings
from .report import speed

# The quicker end of what Forge's own moves were measured to do on a server card (PCIe 5): an estimate that
# leans to fewer seconds saved. To the device, and back to RAM, in GB/s.
DOCUMENTED_LOAD = 8.2
DOCUMENTED_UNLOAD = 6.0


@dataclass(frozen=True)
class Tally:
    """Bytes and seconds of what was moved and unloaded by us. `cold`: read from the disk on the way.

    `chosen`: where a checkpoint came from that was not the one in use: "kept", or "file".
    """

    moved: int = 0
    moving: float = 0.0
    cold: int = 0
    reading: float = 0.0
    unloaded: int = 0
    unloading: float = 0.0
    chosen: str = ""

    @property
    def found(self) -> str:
        """Where the checkpoint was: "in use", "kept", "page cache", "disk"; "file": the WebUI read it by itself."""
        if self.chosen != "file":
            return self.chosen or "in use"
        return "disk" if self.cold else "page cache" if self.moved else "file"

    def plus(self, event: Event) -> Tally:
        """With one more event, if it is one of ours: the WebUI's own moves save nothing."""
        if event.kind == "checkpoint":
            return replace(self, chosen=event.source)
        if event.kind == "move" and event.ours and event.source == "disk":
            return replace(self, cold=self.cold + event.bytes, reading=self.reading + event.seconds)
        if event.kind == "move" and event.ours:
            return replace(self, moved=self.moved + event.bytes, moving=self.moving + event.seconds)
        if event.kind == "unload" and not event.target:
            unloaded, unloading = self.unloaded + event.bytes, self.unloading + event.seconds
            return replace(self, unloaded=unloaded, unloading=unloading)
        return self

    def saved(self, machine: Machine | None) -> float:
        """Seconds; negative where ours took longer. What comes from a disk waits for the disk whoever reads it."""
        load, unload = _rates(machine)
        saved = self.moved / GB / load - self.moving + self.unloaded / GB / unload - self.unloading
        disk = machine.disk if machine is not None else None
        if disk:
            saved += self.cold / GB / min(load, disk) - self.reading
        return saved


def savings(since_start: Tally, in_request: Tally | None, machine: Machine | None, nothing: str) -> Savings:
    """Both sums, and how they were computed. `nothing`: why no move here means anything, "" where they do."""
    if nothing:
        return Savings(0.0, None if in_request is None else 0.0, True, nothing)
    load, unload = _rates(machine)
    measured = is_measured(machine)
    if measured:
        how = f"the WebUI's own moves were measured here: {speed(load)} to the device, {speed(unload)} back"
    else:
        how = (
            f"the WebUI's own moves are taken to do {speed(load)} to the device and "
            f"{speed(unload)} back, as on a large server; measure this machine for its own figures"
        )
    request = None if in_request is None else in_request.saved(machine)
    return Savings(since_start.saved(machine), request, not measured, how)


def is_measured(machine: Machine | None) -> bool:
    """Whether the WebUI's own moves were measured in both directions."""
    return machine is not None and bool(machine.host_load) and bool(machine.host_unload)


def _rates(machine: Machine | None) -> tuple[float, float]:
    if machine is None:
        return DOCUMENTED_LOAD, DOCUMENTED_UNLOAD
    return machine.host_load or DOCUMENTED_LOAD, machine.host_unload or DOCUMENTED_UNLOAD
