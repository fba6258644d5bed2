"""What the user asked for: typed, validated, and with the winning source of every key.

The sources come in as plain mappings (sources.py reads them), highest precedence first. A value
that does not fit is one sentence naming source, key, value and what is allowed; the next source decides.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .kinds import BadValue
from .setting import Value
from .settings import SETTINGS, Config

__all__ = ["AS_CONFIGURED", "SECTIONS", "SETTINGS", "Config", "Loaded", "Source", "Value", "load"]

AS_CONFIGURED = "as configured"
DEFAULT = "built-in default"
SECTIONS = ("catalog",)
"""Keys of the files that another room reads."""
MAX_PROBLEMS = 20
"""Sentences; the rest is counted."""
MAX_SHOWN = 120
"""Characters of what somebody wrote."""


@dataclass(frozen=True)
class Source:
    """Values by key from one place; `name` is shown to people ("command line", a file's path)."""

    name: str
    values: Mapping[str, object]


@dataclass(frozen=True)
class Loaded:
    """The configuration in force, where each key came from, and what was wrong on the way."""

    config: Config
    origin: Mapping[str, str]
    problems: tuple[str, ...]


def load(sources: Iterable[Source]) -> Loaded:
    """Take each key from the first source that has a fitting value, else its default."""
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    problems = Problems()
    for source in sources:
        for key, raw in source.values.items():
            if raw == AS_CONFIGURED or key in SECTIONS:
                continue
            setting = SETTINGS.get(key)
            if setting is None:
                problems.add(source.name, unknown, key)
                continue
            try:
                value = setting.kind.parse(raw)
            except BadValue as allowed:
                problems.add(source.name, _misfit, key, raw, allowed)
                continue
            if key not in values:
                values[key] = value
                origin[key] = source.name
    for key in SETTINGS:
        origin.setdefault(key, DEFAULT)
    return Loaded(Config(**values), origin, problems.sentences())


class Problems:
    """Sentences on what is wrong with a configuration: however much that is, it fills no log."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._number = 0

    def add(self, where: str, clause: Callable[..., str], *about: object) -> None:
        """`clause(*about)` says what; it is only asked where the sentence is kept."""
        self._number += 1
        if len(self._first) < MAX_PROBLEMS:
            self._first.append(f"{where}: {clause(*about)}")

    def sentences(self) -> tuple[str, ...]:
        more = self._number - len(self._first)
        return (*self._first, f"{more} more problems like these are not listed") if more else (*self._first,)


def unknown(key: str) -> str:
    """A clause on a key that nothing is called by, with the one that was probably meant."""
    meant = difflib.get_close_matches(key[:MAX_SHOWN].lower(), SETTINGS, 1, 0.75)
    probably = f" ({meant[0]} was probably meant)" if meant else ""
    return f"unknown key {cut(key)}{probably}; it is ignored"


def _misfit(key: str, raw: object, allowed: BadValue) -> str:
    return f"{key} = {cut(raw)} is not {allowed}; the next source or the default is used"


def cut(value: object) -> str:
    """A value that somebody wrote, short enough for a line."""
    try:
        text = repr(value)
    except RecursionError:
        return "a deeply nested value"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}... ({len(text)} characters)"
