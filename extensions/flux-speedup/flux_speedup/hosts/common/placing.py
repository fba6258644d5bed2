"""What moves weights in a host with a memory manager: one for the life of the process, as what is on a device stays
known through "Reload UI"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
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
        self._warmed = self._has_context = False
        self._first: tuple[Sequence[Path], Callable[[], bool]] | None = None

    def changes(self, rule: Rule) -> list[Change]:
        """`rule`: how much RAM files may take that are registered for loads."""
        self.direct.rule = rule
        return [Call(lambda: self.direct.release_all), Call(self._warm_up)]

    def _warm_up(self) -> Undo:
        from ...weights.warming import warm_up_soon

        if not self._warmed:
            self._warmed = True
            warm_up_soon(self._device(), then=self._go_on)
        return lambda: None

    def prepare(self, files: Sequence[Path], still: Callable[[], bool]) -> None:
        """The first load will read these, which are in RAM now, as long as `still`; see `Direct.prepare`."""
        self._first = files, still
        if self._has_context:  # nobody else makes one for it
            self._hold_first()

    def _go_on(self) -> None:
        self._has_context = True
        self._hold_first()

    def _hold_first(self) -> None:
        if self._first is not None:
            files, still = self._first
            self.direct.prepare(files, self._device(), still)
