"""Total VRAM -> tier -> the settings it means. Pure: nothing here touches a host or a device.

Card sizes count in GiB (2^30 bytes), as makers do: a "48 GB" card has 51.5 * 10^9 bytes and is not over 50.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

GIB = 1 << 30


class Tier(str, Enum):
    """What a card's size means for memory."""

    LARGE = "large"
    STANDARD = "standard"
    NONE = "none"


@dataclass(frozen=True)
class Card:
    """The device the WebUI generates on. Sizes in bytes, None: it is not known.

    `shares_ram`: its memory is the machine's own (GB10, Jetson, Strix Halo), and what is there is nowhere else.
    """

    name: str
    is_gpu: bool | None
    total: int | None
    free: int | None = None
    shares_ram: bool = False


@dataclass(frozen=True)
class TierRules:
    """The part of the configuration that decides; sizes in GiB, shares of total VRAM from 0 to 1."""

    mode: str = "auto"
    large_over: float = 50.0
    large_inference_share: float = 0.25
    large_swap_divisor: float = 1.15
    large_swap_reserve: float = 2.0
    large_low_vram_below: float = -1.0
    large_process_share: float = 0.95
    standard_inference_share: float | None = None


@dataclass(frozen=True)
class SwapRule:
    """How much of a model stays on the device when it does not fit: max(free / divisor, free - reserve)."""

    divisor: float
    reserve: int

    def budget(self, available: float) -> int:
        """Bytes of weights to keep on the device; `available` is free VRAM less what inference keeps."""
        return int(max(0.0, available / self.divisor, available - self.reserve))


@dataclass(frozen=True)
class MemoryPlan:
    """What to set. None or False: the WebUI's own value stays exactly as the user set it. Sizes in bytes."""

    tier: Tier
    why: str
    high_vram: bool = False
    no_forced_offload: bool = False
    pin: bool = False
    inference_bytes: int | None = None
    swap: SwapRule | None = None
    low_vram_below: int | None = None
    process_share: float | None = None


def plan(card: Card, rules: TierRules) -> MemoryPlan:
    """Decide the tier of a card and everything that follows from it (mission: over 50 GB is large)."""
    tier, why = _tier(card, rules)
    if tier is Tier.LARGE and card.total:
        return MemoryPlan(
            tier,
            why,
            high_vram=True,
            no_forced_offload=True,
            pin=True,
            inference_bytes=int(card.total * rules.large_inference_share),
            swap=SwapRule(rules.large_swap_divisor, int(rules.large_swap_reserve * GIB)),
            low_vram_below=int(rules.large_low_vram_below * GIB),
            process_share=rules.large_process_share,
        )
    if tier is Tier.STANDARD and card.total and rules.standard_inference_share is not None:
        return MemoryPlan(tier, why, inference_bytes=int(card.total * rules.standard_inference_share))
    return MemoryPlan(tier, why)


def gib(count: int) -> str:
    """Memory of a card, in the unit cards are sold in: "79.1 GiB", "2 GiB"."""
    return f"{round(count / GIB, 1):g} GiB"


def _tier(card: Card, rules: TierRules) -> tuple[Tier, str]:
    if rules.mode == "off":
        return Tier.NONE, "turned off in the configuration"
    if card.is_gpu is None:
        return Tier.NONE, "it is not known what this WebUI computes on"
    if not card.is_gpu:
        return Tier.NONE, "no GPU: the WebUI runs on the CPU"
    if not card.total:
        return Tier.NONE, "the card's memory is unknown"
    size = gib(card.total)
    if rules.mode in (Tier.LARGE.value, Tier.STANDARD.value):
        return Tier(rules.mode), f"chosen in the configuration, for a card of {size}"
    if card.total <= rules.large_over * GIB:
        return Tier.STANDARD, f"{size} of VRAM, not over {rules.large_over:g}"
    if card.shares_ram:
        return (
            Tier.STANDARD,
            f"{size} of VRAM, but it is the machine's RAM: models that stay there are in everybody's way",
        )
    if card.free is not None and card.free < card.total / 2:
        # Keeping everything resident counts on the whole card; another program has most of it.
        return Tier.STANDARD, f"{size} of VRAM, but only {gib(card.free)} are free at start"
    return Tier.LARGE, f"{size} of VRAM, over {rules.large_over:g}"
