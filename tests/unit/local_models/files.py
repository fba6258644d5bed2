"""Files and entries that the tests of this room share."""

from __future__ import annotations

import hashlib
from pathlib import Path

from flux_speedup.local_models.catalog import Entry

CONTENT = b"PK\x03\x04" + bytes(range(256)) * 40
OTHER = CONTENT[:-1] + b"\x00"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def entry(file: str = "face.pt", **fields: object) -> Entry:
    """An entry whose bytes and sha256 are CONTENT's; keyword arguments replace its fields."""
    facts: dict[str, object] = {
        "kind": "adetailer",
        "folder": "adetailer",
        "repo": "Bingsu/adetailer",
        "repo_file": file,
        "bytes": len(CONTENT),
        "sha256": sha256(CONTENT),
    }
    return Entry(file, **{**facts, **fields})  # type: ignore[arg-type]


def put(folder: Path, name: str = "face.pt", content: bytes = CONTENT) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
