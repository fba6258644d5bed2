"""What this WebUI is called by those who ask for it: its own names, and pages that its user let in."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

from ...control.rules import Names

# Tunnels that a flag of the WebUI opens. Nobody else can make a name below these lead to this machine.
TUNNELS = {
    "share": ("*.gradio.live", "*.gradio.app"),
    "ngrok": ("*.ngrok.io", "*.ngrok.app", "*.ngrok.dev", "*.ngrok-free.app", "*.ngrok-free.dev"),
}


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
