"""What the buttons do, each answering with the HTML of its result."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..control.acts import Acts
from ..hosts.common.inside import Refused
from . import cards, models
from .words import safe, when

if TYPE_CHECKING:
    from ..facts.seen import Seen

log = logging.getLogger("flux_speedup")


def attempt(act: Callable[[], object], done: str = "") -> str:
    """Do it and say what came of it: the sentence it answers, else `done`, or why not; "" for nothing."""
    try:
        answer = act()
    except Refused as why:
        # It stays there until a button is pressed again, when it may not be so any longer.
        at = f'<span class="fsu-soft">({when(time.time(), time.time())})</span>'
        return cards.result(f"Not now: {safe(why)} {at}", good=False)
    except Exception as error:
        log.exception("a button of the tab failed")
        return cards.result(f"Failed: {safe(error)}. The log has the details.", good=False)
    said = answer if isinstance(answer, str) else done
    return cards.result(safe(said)) if said else ""


def drop(view: Seen, acts: Acts, token: str) -> str:
    """Forget the kept model that `token` stands for."""

    def act() -> str:
        found = [model for model in view.models() if models.token(model) == token]
        return acts.drop(found[0].key) if found else "This model is no longer kept."

    return attempt(act)
