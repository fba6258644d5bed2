"""The options of the Settings section, as plain data: the host adapter turns them into its own kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..configuration.config import AS_CONFIGURED, Loaded
from ..configuration.setting import EVERYWHERE, shown
from ..configuration.settings import SETTINGS
from ..configuration.sources import OPTION_PREFIX

ABOVE_THE_PAGE = ("command line", "environment")


@dataclass(frozen=True)
class Option:
    """One entry of the section. `key` is the WebUI's name for it, `default` has the type its values have."""

    key: str
    label: str
    choices: tuple[str, ...]
    info: str
    restart: bool = False
    default: str = AS_CONFIGURED

    def has_effect_on(self, family: str) -> bool:
        """Whether it does anything on a WebUI of that name in the table of settings."""
        hosts = SETTINGS[self.key.removeprefix(OPTION_PREFIX)].hosts
        return hosts == EVERYWHERE or family in hosts


OPTIONS: tuple[Option, ...] = tuple(
    Option(OPTION_PREFIX + each.key, each.label, (AS_CONFIGURED, *each.choices), each.help, each.restart)
    for each in SETTINGS.values()
    if each.label
)


def behind(loaded: Loaded) -> dict[str, str]:
    """By an option's key: the value that "as configured" stands for, and where it comes from."""
    found = {}
    for option in OPTIONS:
        key = option.key.removeprefix(OPTION_PREFIX)
        value, origin = shown(getattr(loaded.config, key)), loaded.origin[key]
        wins = ", whatever is chosen here" if origin in ABOVE_THE_PAGE else ""
        found[option.key] = f"{AS_CONFIGURED}: {value}, from {_place(origin)}{wins}"
    return found


def _place(origin: str) -> str:
    return origin if origin in ABOVE_THE_PAGE else Path(origin).name
