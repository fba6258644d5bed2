"""One setting: everything that is known of it, in the one place where it is declared (`settings.Config`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from .kinds import Kind, Switch

T = TypeVar("T")
Value = str | int | float | bool | None | tuple[str, ...]
EVERYWHERE = ("every WebUI",)
FORGE = ("Forge",)
FORGE_AND_NEO = ("Forge", "Forge Neo")
THE_FOUR = ("Forge", "Forge Neo", "reForge", "A1111")


@dataclass(frozen=True)
class Setting:
    """What somebody can choose.

    help: what it does, one clause without a full stop; `more`: what only the documentation adds. group: the
    heading it stands under. label: its name on the Settings page, "" where it is not there; choices: its values
    there, besides "as configured". hosts: where it has an effect. restart: "Reload UI" does not bring it in force.
    private: its value may name somebody or their machine, and is kept out of bug reports.
    """

    key: str
    kind: Kind
    default: Value
    group: str
    help: str
    more: str = ""
    label: str = ""
    choices: tuple[str, ...] = ()
    hosts: tuple[str, ...] = EVERYWHERE
    restart: bool = False
    private: bool = False


@dataclass(frozen=True)
class Group:
    """The heading that settings stand under; called, it declares a field of `settings.Config`."""

    name: str

    def __call__(
        self,
        default: T,
        help: str,
        kind: Kind | None = None,
        *,
        more: str = "",
        label: str = "",
        choices: tuple[str, ...] = (),
        hosts: tuple[str, ...] = EVERYWHERE,
        restart: bool = False,
        private: bool = False,
    ) -> T:
        """kind: None for a switch."""
        choices = choices or (("on", "off") if label else ())
        about = {
            "kind": kind or Switch(), "group": self.name, "help": help, "more": more, "label": label,
            "choices": choices, "hosts": hosts, "restart": restart, "private": private,
        }  # fmt: skip
        declared: Any = field(default=default, metadata=about)
        found: T = declared
        return found


def shown(value: Value) -> str:
    """A value in the words of a configuration: on, off, null, names with commas."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
