"""Items of the patch table that the configuration, or the host, may leave out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..hosts.common.webui import NOT_AVAILABLE
from ..patching.change import Change, Declined
from ..patching.table import PatchTable, State

SWITCHED_OFF = "turned off in the configuration"


def switch(table: PatchTable, wanted: bool, item: tuple[str, str, str], changes: Sequence[Change]) -> None:
    """Arm an item (key, title, why) that the configuration can turn off."""
    key, title, why = item
    if wanted:
        table.add(key, title, why, changes)
    else:
        table.note(key, title, State.SKIPPED, SWITCHED_OFF)


def where_available(
    table: PatchTable, wanted: bool, item: tuple[str, str, str], changes: Callable[[], Sequence[Change]]
) -> None:
    """As `switch`, for what only some hosts have changes for: the others decline, with their reason."""
    why = NOT_AVAILABLE
    try:
        made = changes() if wanted else []
    except Declined as reason:
        made, why = [], str(reason)
    if wanted and not made:
        table.note(item[0], item[1], State.SKIPPED, why)
    else:
        switch(table, wanted, item, made)
