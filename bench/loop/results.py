"""Rows of all variants: whether outputs are the same bytes, and seconds side by side."""

from __future__ import annotations

from typing import Any

from measure.output import say

Row = dict[str, Any]
LOOP_MOVES = ("move text encoders", "move transformer", "move VAE")


def compared(rows: list[Row]) -> dict[str, Any]:
    """How many outputs are the same bytes in all variants."""
    seen: dict[tuple[str, str], set[str]] = {}
    count: dict[tuple[str, str], int] = {}
    for row in rows:
        if "sha256" in row:
            key = (row["case"], row["phase"])
            seen.setdefault(key, set()).add(row["sha256"])
            count[key] = count.get(key, 0) + 1
    outputs = [key for key, times in count.items() if times > 1]
    different = [key for key in outputs if len(seen[key]) > 1]
    return {
        "compared": len(outputs),
        "different": len(different),
        "different_outputs": [": ".join(key) for key in different],
    }


def summary(rows: list[Row], result: dict[str, Any]) -> None:
    """Seconds by case and phase, the variants side by side; of a loop the images after the first."""
    table: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows:
        if "seconds" in row and row.get("image") != 1:
            cell = table.setdefault((row["case"], row["name"]), {})
            cell.setdefault(row["variant"], []).append(row["seconds"])
    say("\nmean seconds (loops: images after the first)")
    for (case, name), cells in table.items():
        shown = "  ".join(f"{variant} {sum(s) / len(s):8.3f}" for variant, s in cells.items())
        say(f"{case:34s} {name:34s} {shown}")
    for case in dict.fromkeys(case for case, _ in table):
        moves = {
            variant: sum(
                sum(cells[variant]) / len(cells[variant])
                for (of, name), cells in table.items()
                if of == case and name in LOOP_MOVES and variant in cells
            )
            for variant in dict.fromkeys(row["variant"] for row in rows)
        }
        if "steps" not in case:
            say(f"{case:34s} moving, an image: " + ", ".join(f"{v} {s:.3f} s" for v, s in moves.items()))
    for row in rows:
        if "error" in row:
            say(f"FAILED: {row['variant']}, {row['case']}: {row['error'][:200]}")
    say(f"outputs compared {result['compared']}, different {result['different']}")
    for name in result["different_outputs"]:
        say(f"  DIFFERENT: {name}")
