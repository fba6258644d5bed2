"""Who refers to what is to be left out: read from the Python files of the extensions that stay. Bounded."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Mapping
from itertools import chain
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


def said(text: str, pattern: re.Pattern[str]) -> set[str]:
    """The words that code depends on: one whose absence it looks for itself is none, nor is one in a comment.

    What is no Python of this version is taken at its word, comments included: it may depend on them.
    """
    if pattern.search(text) is None:
        return set()
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _words(text, pattern)
    found: set[str] = set()
    without: set[str] = set()
    for node in ast.walk(tree):
        for mentioned in _mentioned(node):
            found |= _words(mentioned, pattern)
        without |= _looked_for(node)
    return found - without


def _mentioned(node: ast.AST) -> Iterator[str]:
    """Names that a node imports; text that it holds, unless that is a comment in quotes."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield node.module or ""
        yield from (alias.name for alias in node.names)
    else:
        for child in ast.iter_child_nodes(node):
            if (
                isinstance(child, ast.Constant)
                and isinstance(child.value, str)
                and not isinstance(node, ast.Expr)
            ):
                yield child.value


def _looked_for(node: ast.AST) -> set[str]:
    """The name that a node tests for absence: `x is None`, `not x`."""
    tested: ast.expr | None = None
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Is):
        other = node.comparators[0]
        tested = node.left if isinstance(other, ast.Constant) and other.value is None else None
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        tested = node.operand
    name = tested.attr if isinstance(tested, ast.Attribute) else getattr(tested, "id", "")
    return {str(name).lower()}


def _words(text: str, pattern: re.Pattern[str]) -> set[str]:
    return {match.group(1).lower() for match in pattern.finditer(text)}


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
    return re.compile(rf"(?<![\w-])({either})(?![\w-])", re.IGNORECASE)


def _sources(folder: Path) -> Iterator[str]:
    """The scripts first: of a big extension not every file is read."""
    left = MAX_FILES
    for path in chain(_files(folder / "scripts", ""), _files(folder, "scripts")):
        left -= 1
        if left < 0:
            return
        text = _read(path)
        if text:
            yield text


def _files(folder: Path, but: str) -> Iterator[Path]:
    """Every Python file below, but for those of one folder in it."""
    for place, below, files in os.walk(folder):
        skipped = SKIPPED | {but} if place == str(folder) else SKIPPED
        below[:] = sorted(d for d in below if d.lower() not in skipped and not d.startswith((".", "__")))
        yield from (Path(place) / name for name in sorted(files) if name.endswith(".py"))


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
