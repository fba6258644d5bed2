"""What moves weights in a host with a memory manager: one for the life of the process, as what is on a device stays
known through "Reload UI"."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ...patching.change import Call, Change, Undo
from ...ram import Rule
from ...weights.residency.placement import Placement
from ...weights.transfer.direct import Direct
from ...weights.transfer.spare import SPARE


class Placing:
    """Residencies, and the files that the GPU reads by itself. `device`: asked when changes are made."""

    def __init__(
        self,
        quiet: Callable[[], AbstractContextManager[None]],
        busy: Callable[[], bool],
        device: Callable[[], Any],
    ) -> None:
        self.direct = Direct(busy=busy)
        SPARE.busy = busy
        self.placement = Placement(quiet=quiet, direct=self.direct)
        self._device = device
        self._warmed = False

    def changes(self, rule: Rule) -> list[Change]:
        """`rule`: how much RAM files may take that are registered for loads."""
        self.direct.rule = rule
        return [Call(lambda: self.direct.release_all), Call(self._warm_up)]

    def _warm_up(self) -> Undo:
        from ...weights.warming import warm_up_soon

        if not self._warmed:
            self._warmed = True
            warm_up_soon(self._device())
        return lambda: None
