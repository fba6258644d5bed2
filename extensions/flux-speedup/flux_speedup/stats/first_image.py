"""What the first image after a start waited for: its bytes, still on the disk, or the start alone. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from .report import seconds, size

DISK, START = "disk", "start"


@dataclass(frozen=True)
class FirstImage:
    """The first request of a process that made an image.

    start: seconds of the WebUI's start; None where they are not known. wanted: bytes that were read ahead for it;
    read: of these, those that were in RAM when it was asked for. cold: bytes that it read from the disk itself.
    models: its seconds for models that load, move or unload.
    """

    start: float | None
    wanted: int
    read: int
    cold: int
    models: float

    @property
    def waited_for(self) -> str:
        """Whichever ended later: reading from the disk, or the start."""
        return DISK if self.cold or self.read < self.wanted else START

    def sentence(self) -> str:
        """Why, with figures, for people."""
        took = f"{seconds(self.models)} of the image were for models"
        if self.waited_for == DISK:
            left = [f"{size(self.read)} of {size(self.wanted)} were read when it was asked for"] * (
                self.read < self.wanted
            )
            left += [f"it read {size(self.cold)} by itself"] * bool(self.cold)
            return f"the first image waited for the disk: {', '.join(left)}; {took}"
        covered = "" if self.start is None else f" of {seconds(self.start)}"
        ready = (
            f"its {size(self.wanted)} were read before it" if self.wanted else "its files were in RAM already"
        )
        return f"the first image waited for the WebUI's start{covered} alone: {ready}; {took}"
