"""What this WebUI is called by those who ask for it: its own names, and pages that its user let in."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

# Tunnels that a flag of the WebUI opens. Nobody else can make a name below these lead to this machine.
TUNNELS = {
    "share": ("*.gradio.live", "*.gradio.app"),
    "ngrok": ("*.ngrok.io", "*.ngrok.app", "*.ngrok.dev", "*.ngrok-free.app", "*.ngrok-free.dev"),
}


@dataclass(frozen=True)
class Names:
    """What this server is called, besides addresses and names of one word.

    own: names as they are, or `*.example.org` for all below one; `*` for whatever name. origins: addresses of
    pages that may ask from elsewhere, as `https://example.org`, `*` for all; origin_pattern: the same as a
    regular expression, which must match as a whole.
    """

    own: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    origin_pattern: str | None = None

    def has(self, name: str) -> bool:
        """Whether a name without port is one of ours. An address is: no name was made to lead to it."""
        if "*" in self.own or "*" in self.origins or name in self.own or _is_address(name):
            return True
        # Nobody can own a public name of one word, so none can be made to lead here.
        if "." not in name or name.endswith(".localhost"):
            return True
        if any(pattern[:2] == "*." and name.endswith(pattern[1:]) for pattern in self.own):
            return True
        return any(_host_of(origin) == name for origin in self.origins)

    def may_ask_from(self, origin: str) -> bool:
        """Whether a page of another origin was let in by the user."""
        if "*" in self.origins or origin in self.origins:
            return True
        if self.origin_pattern and _matches(self.origin_pattern, origin):
            return True
        # A proxy that asks us by another name than it is asked by.
        host = _host_of(origin)
        return host in self.own or any(p[:2] == "*." and host.endswith(p[1:]) for p in self.own)


def names(flags: Any, allowed: Iterable[str]) -> Names:
    """`flags`: the WebUI's, parsed; `allowed`: the setting `allowed_hosts`."""
    own = {name.strip().lower() for name in allowed}
    machine = socket.gethostname().lower()
    own |= {
        machine,
        f"{machine.partition('.')[0]}.local",
        str(getattr(flags, "server_name", None) or "").lower(),
    }
    for flag, tunnels in TUNNELS.items():
        own |= set(tunnels) if getattr(flags, flag, None) else set()
    origins = str(getattr(flags, "cors_allow_origins", None) or "").lower().split(",")
    pattern = getattr(flags, "cors_allow_origins_regex", None)
    return Names(frozenset(own - {""}), frozenset(each.strip() for each in origins if each.strip()), pattern)


def _host_of(origin: str) -> str:
    """Without its port; "" where it is no address, as anybody can send anything."""
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _matches(pattern: str, origin: str) -> bool:
    try:
        return re.fullmatch(pattern, origin) is not None
    except re.error:
        return False
