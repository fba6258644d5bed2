"""Changes of functions that only some hosts have."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ...patching.change import Change, ChangeError, Undo, apply, in_reverse


def whatever_is_there(optional: Iterable[Change]) -> Undo:
    """Make those changes whose function exists in this host."""
    undos: list[Undo] = []
    for change in optional:
        if change.module not in sys.modules:
            continue
        try:
            undos.append(apply(change))
        except ChangeError:
            continue
    return in_reverse(undos)
