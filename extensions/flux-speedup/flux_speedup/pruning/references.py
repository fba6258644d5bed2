"""Who refers to what is to be left out: read from the Python files of the extensions that stay. Bounded."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from .surroundings import Folder

MAX_FILES = 300
MAX_BYTES = 512 * 1024
SKIPPED = frozenset(
    {"node_modules", "javascript", "tests", "test", "venv", "models", "html", "repositories", "docs"}
)
# Names of folders that say nothing of who they belong to.
COMMON = frozenset({"scripts", "modules", "models", "utils", "tests", "install", "preload", "__init__"})
# By a script of theirs: ADetailer looks for ControlNet and X/Y/Z plot and does without them; we name all.
DO_WITHOUT = frozenset({"!adetailer", "flux_speedup"})


def find(folders: list[Folder], words: frozenset[str]) -> Mapping[str, str]:
    """The words that an extension's code quotes or imports, each with the first extension that does."""
    found: dict[str, str] = {}
    for folder in folders:
        if not folder.scripts or DO_WITHOUT & {stem.lower() for stem in folder.scripts}:
            continue
        wanted = words - set(folder.packages) - found.keys()
        if not wanted:
            continue
        pattern = _pattern(wanted)
        for text in _sources(Path(folder.path)):
            for word in said(text, pattern):
                found.setdefault(word, folder.name)
    return found


def said(text: str, pattern: re.Pattern[str]) -> Iterator[str]:
    """The words that `text` depends on: one whose absence it looks for itself is none."""
    for match in pattern.finditer(text):
        word = match.group(1).lower()
        if not re.search(rf"\b{re.escape(word)} is None|\bnot {re.escape(word)}\b", text):
            yield word


def packages(folder: Path) -> tuple[str, ...]:
    """Names under which code of this extension's folder can be imported by others."""
    found = []
    try:
        for item in sorted(folder.iterdir()):
            name = item.stem if item.suffix == ".py" else item.name
            if name.lower() in COMMON or not name.isidentifier():
                continue
            if item.suffix == ".py" or (item.is_dir() and any(item.glob("*.py"))):
                found.append(name)
    except OSError:
        return ()
    return tuple(found)


def _pattern(words: frozenset[str]) -> re.Pattern[str]:
    either = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.compile(
        rf"""(?:\b(?:import|from)\s+|["'][^"'\n]*?(?<![\w-]))({either})(?![\w-])""", re.IGNORECASE
    )


def _sources(folder: Path) -> Iterator[str]:
    left = MAX_FILES
    for place, inside, files in os.walk(folder):
        inside[:] = sorted(d for d in inside if d.lower() not in SKIPPED and not d.startswith((".", "__")))
        for name in sorted(files):
            if not name.endswith(".py"):
                continue
            left -= 1
            if left < 0:
                return
            text = _read(Path(place) / name)
            if text:
                yield text


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
