"""A `View` in memory: what the tab, the settings section and the API are shown in tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from flux_speedup.patches import Outcome, State
from flux_speedup.stats.events import Event, Totals
from flux_speedup.view import ConfigRow, LeftOut, Status

OUTCOMES = (
    Outcome("tier.vram_state", "VRAM mode: high", State.APPLIED, "the whole model fits on this card"),
    Outcome("tier.inference", "25 % of VRAM kept for inference", State.APPLIED, "large tier, 80 GB card"),
    Outcome("streams", "Copy streams", State.APPLIED, "a CUDA stream could be created"),
    Outcome("pinning", "Pinned weights", State.APPLIED, "weights are read by the card directly"),
    Outcome("timing", "Timing of loads", State.PENDING, "waits for backend.loader"),
    Outcome("attention", "Attention kernels", State.SKIPPED, "off in Settings"),
    Outcome("allocator", "Allocator", State.FAILED, "CUDA was initialised before; the default stays"),
)

# Markup, quotes, right-to-left text, its override character, a newline, an emoji, what is no Unicode.
NASTY = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "\"quoted\" & 'single' `back`",
    "מודל-עברי.safetensors",
    "evil\u202egnp.exe",
    "two\nlines",
    "🚀 rocket.safetensors",
    "lone \udce9 surrogate",
)


def flux_day(now: float) -> list[Event]:
    """Two starts, two checkpoints, seven moves and five unloads, oldest first."""
    earlier = [("launcher", 0.4), ("import torch", 9.0), ("load scripts", 5.0), ("total", 14.4)]
    this = [("launcher", 0.4), ("import torch", 6.6), ("load scripts", 0.68), ("create ui", 2.1)]
    this.append(("total", 9.8))
    found = [Event("startup", what, 0, s, "", "", now - 9000 + i) for i, (what, s) in enumerate(earlier)]
    found += [Event("startup", what, 0, s, "", "", now - 600 + i) for i, (what, s) in enumerate(this)]
    found.append(Event("checkpoint", "flux1-dev.safetensors", 23_800_000_000, 1.9, "disk", "RAM", now - 500))
    found.append(Event("checkpoint", "flux1-schnell.safetensors", 11_900_000_000, 1.2, "", "RAM", now - 300))
    encoders, vae = ("text encoders", 9_800_000_000, 0.22), ("vae", 168_000_000, 0.01)
    transformer = ("transformer", 23_800_000_000, 0.5)
    moves = [encoders, transformer, vae, encoders, transformer, vae, encoders]
    for i, (what, size, s) in enumerate(moves):
        at = now - 250 + i * 30
        found.append(Event("move", what, size, s, "page cache", "GPU", at))
        if i < 5:
            found.append(Event("unload", what, size, 0.004, "GPU", "", at + 10))
    return found


class FakeView:
    """Answers from lists that a test may change; `calls` holds what the buttons asked for."""

    def __init__(self, *, simulated: bool = False) -> None:
        self.outcomes = OUTCOMES
        self.pruned = LeftOut(
            "2 scripts are not loaded", "start 18.7 s -> 11.6 s", ("sd_forge_sag", "SwinIR")
        )
        self.kept: list[Event] = flux_day(time.time())
        self.simulated = simulated
        self.calls: list[tuple[str, tuple[str, ...]]] = []
        self.error: Exception | None = None

    def status(self) -> Status:
        return Status(
            version="0.1.0",
            host="Forge",
            enabled=True,
            card="NVIDIA H100 80GB HBM3, 79.1 GiB",
            tier="large",
            tier_why="79.1 GiB is over 50 GiB: everything stays on the card, 25 % is kept for inference",
            simulated=self.simulated,
            outcomes=self.outcomes,
        )

    def events(
        self, *, since: float | None = None, kind: str | None = None, limit: int = 100, offset: int = 0
    ) -> list[Event]:
        wanted = [
            event
            for event in reversed(self.kept)
            if (since is None or event.at >= since) and (kind is None or event.kind == kind)
        ]
        return wanted[offset : offset + limit]

    def totals(self) -> Totals:
        return Totals.of(self.kept)

    def config(self) -> list[ConfigRow]:
        return [ConfigRow("tier", "auto", "config.json"), ConfigRow("streams", True, "settings")]

    def keep_only(self, items: Sequence[str]) -> Status:
        return self._put_back("keep_only", tuple(items), lambda o: o.item not in items)

    def put_everything_back(self) -> Status:
        return self._put_back("put_everything_back", (), lambda o: True)

    def left_out(self) -> LeftOut:
        return self.pruned

    def disable_left_out(self) -> str:
        self.calls.append(("disable_left_out", ()))
        if self.error is not None:
            raise self.error
        self.pruned = replace(self.pruned, disabled=self.pruned.can_disable, can_disable=())
        return f"Disabled: {', '.join(self.pruned.disabled)}"

    def undo_disabled(self) -> str:
        self.calls.append(("undo_disabled", ()))
        self.pruned = replace(self.pruned, can_disable=self.pruned.disabled, disabled=())
        return f"Enabled again: {', '.join(self.pruned.can_disable)}"

    def _put_back(self, call: str, items: tuple[str, ...], which: Callable[[Outcome], bool]) -> Status:
        self.calls.append((call, items))
        if self.error is not None:
            raise self.error
        self.outcomes = tuple(
            replace(o, state=State.UNDONE) if o.state is State.APPLIED and which(o) else o
            for o in self.outcomes
        )
        return self.status()
