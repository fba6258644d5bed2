"""Whether an unload leaves as much of the card free as it does in the WebUI alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

BAR_MB = 64


def less_free(rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    """MB that are taken after an unload beside what the WebUI alone leaves there: "card, variant" -> MB.

    Of several rounds the least of each. Only what both have done, and only where memory is told.
    """
    free: dict[tuple[Any, Any], int] = {}
    for row in rows:
        if row["request"] == "unload" and "vram_free" in row:
            key = row["card"], row["variant"]
            free[key] = max(free.get(key, 0), round(row["vram_free"] * 1000))
    return {
        f"{card}, {variant}": free[card, "alone"] - found
        for (card, variant), found in free.items()
        if variant != "alone" and (card, "alone") in free
    }
