"""What the tab's buttons do to a view, each answering with the HTML of its result."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..control.acts import Acts
from ..hosts.common.inside import Refused
from . import cards, models
from .words import safe

if TYPE_CHECKING:
    from ..facts.seen import Seen

log = logging.getLogger("flux_speedup")


def attempt(act: Callable[[], str]) -> str:
    """Do it and say what came of it, or nothing where it answers ""; a refusal is an answer like any other."""
    try:
        said = act()
    except Refused as why:
        return cards.result(f"Not now: {safe(why)}", good=False)
    except Exception as error:
        log.exception("a button of the tab failed")
        return cards.result(f"Failed: {safe(error)}. The log has the details.", good=False)
    return cards.result(safe(said)) if said else ""


def free_vram(acts: Acts) -> str:
    """Free all device memory of models."""
    return attempt(lambda: acts.drop(None))


def drop(view: Seen, acts: Acts, token: str) -> str:
    """Forget the kept model that `token` stands for."""

    def act() -> str:
        found = [model for model in view.models() if models.token(model) == token]
        return acts.drop(found[0].key) if found else "This model is no longer kept."

    return attempt(act)


def measure(acts: Acts) -> str:
    """Begin to measure; "" where that worked: the progress says the rest."""

    def act() -> str:
        acts.measure()
        return ""

    return attempt(act)


def cancel(acts: Acts) -> str:
    """Cancel the measurement; "" where that worked."""

    def act() -> str:
        acts.cancel_measuring()
        return ""

    return attempt(act)


def forget(acts: Acts) -> str:
    """Delete the statistics."""

    def act() -> str:
        acts.forget_statistics()
        return "The statistics are deleted; measurements of this machine stay."

    return attempt(act)
