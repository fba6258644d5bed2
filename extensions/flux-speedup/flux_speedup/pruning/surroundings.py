"""What a WebUI has and what its user has chosen, as plain values: all that the decision looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Folder:
    """One extension. name: of its folder; scripts: stems of its scripts/*.py; requires: names in metadata.ini.

    packages: names under which its own modules are imported by others.
    """

    name: str
    path: str
    builtin: bool
    enabled: bool
    scripts: tuple[str, ...]
    requires: frozenset[str] = frozenset()
    packages: tuple[str, ...] = ()


# Words looked for -> those found, each with the name of the extension or script that says it.
Mentions = Callable[[frozenset[str]], Mapping[str, str]]


def no_mentions(_: frozenset[str]) -> Mapping[str, str]:
    """Nobody refers to anything."""
    return {}


@dataclass(frozen=True)
class Surroundings:
    """This WebUI. core: stems of the WebUI's own scripts; upscalers: names by the stem that provides them.

    ui_defaults: ui-config.json; options: the saved settings. mentions: who among what stays loaded refers to a
    word; it gets the paths of the folders that stay.
    disabled_by_us: names of the extensions that our button added to the WebUI's own list.
    """

    core: tuple[str, ...]
    folders: tuple[Folder, ...]
    ui_defaults: Mapping[str, object] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    upscalers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    small_card: bool = False
    controlnet_weight: str = ""
    disabled_by_us: frozenset[str] = frozenset()
    mentions: Callable[[frozenset[str]], Mentions] = lambda _: no_mentions

    def stems(self) -> tuple[str, ...]:
        """Every script of this WebUI, those of disabled extensions too."""
        return (*self.core, *(stem for folder in self.folders for stem in folder.scripts))


@dataclass(frozen=True)
class Wishes:
    """What the configuration says. groups: configuration key of a group -> auto, keep or leave out."""

    left_out: tuple[str, ...]
    keep: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)


def names(pattern: str, stem: str) -> bool:
    """Whether a name of the configuration, which may be a shell pattern or end in .py, means this stem."""
    wanted = pattern.lower().removesuffix(".py")
    return fnmatchcase(stem.lower(), wanted)


def listed(stem: str, patterns: tuple[str, ...]) -> str:
    """The first of `patterns` that means this stem, or ""."""
    return next((pattern for pattern in patterns if names(pattern, stem)), "")
