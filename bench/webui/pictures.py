"""What variants must have in common: the bytes of pictures (file, pixels, text), and what is left of the card."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

BAR_MB = 64
TEXT = (b"tEXt", b"iTXt", b"zTXt", b"eXIf")


@dataclass(frozen=True)
class Picture:
    """Digests of 16 hexadecimal digits. A flat picture has one colour: what was computed was not finite."""

    file: str
    pixels: str
    text: str
    flat: bool


def examined(encoded: str) -> Picture:
    """A picture as the API answers it: a PNG in base64."""
    data = base64.b64decode(encoded.rpartition(",")[2])
    chunks = list(_chunks(data))
    # Filtered scan lines: equal for equal pixels, as one encoder with one setting wrote all that are compared.
    lines = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    text = b"".join(kind + body for kind, body in chunks if kind in TEXT)
    # A picture of one colour is its first pixel, then differences of nothing.
    flat = len(set(lines)) < 8
    return Picture(_digest(data), _digest(lines), _digest(text), flat)


def compared(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Pictures of one card and one request: how many were compared, which were not the same.

    Where the WebUI did not run alone on that card, the whole card stands for it.
    """
    groups: dict[tuple[Any, ...], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        if "pixels" in row:
            groups[row["card"], row["request"]][row["variant"]].add(row["file"])
    for (_, request), group in groups.items():
        if "alone" not in group and "alone" in groups.get(("all", request), {}):
            group["alone, all"] = groups["all", request]["alone"]
    several = {key: group for key, group in groups.items() if len(group) > 1}
    different = [
        f"{card}: {request}"
        for (card, request), group in several.items()
        if len(set.union(*group.values())) > 1
    ]
    return {"compared": len(several), "identical": len(several) - len(different), "different": different}


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


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 8
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        yield data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        position += 12 + length


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
