"""What a program says while it runs, and the JSON file it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def say(text: str) -> None:
    """A line, at once: whoever watches a long run sees where it is."""
    print(text, flush=True)


def write_json(path: Path | None, content: dict[str, Any]) -> None:
    """Nothing is written where no file was asked for."""
    if path:
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
