"""What can be done, without a word on who may: `control.Control` is the way in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ..configuration.sources import OPTION_PREFIX
from ..hosts.common import disabling, traces
from ..hosts.common.inside import Refused
from ..measuring.measured import CannotMeasure, Measured
from ..patching.table import PatchTable
from ..stats.machine import Measuring
from ..stats.statistics import Statistics

if TYPE_CHECKING:
    from ..hosts.common.inside import Inside
    from ..hosts.common.webui import WebUI
    from ..weights.packed.progress import PackedNow

log = logging.getLogger("flux_speedup")
SWITCH = f"{OPTION_PREFIX}enabled"


class Acts:
    """The writes. They act at once and raise `Refused` where they cannot, for example while an image is made.

    `changed`: called after memory did.
    """

    def __init__(
        self,
        host: WebUI,
        table: PatchTable,
        statistics: Statistics,
        measured: Measured,
        changed: Callable[[], None],
    ) -> None:
        self._host = host
        self._table = table
        self._statistics = statistics
        self._measured = measured
        self._changed = changed
        self._undone: tuple[str, ...] = ()

    def may(self) -> None:
        """Nothing but the check of who asks."""

    # Changes of the host.

    def keep_only(self, items: Sequence[str]) -> None:
        """Leave only `items` in force; every other applied change is put back now."""
        with self._nobody_else():
            self._table.put_back(self._table.applied() - set(items))

    def put_everything_back(self) -> None:
        """Undo every change in this process; the next start applies them again."""
        with self._nobody_else():
            self._put_back_now()
        log.info("everything is put back; the next start applies it again")

    def apply_again(self) -> None:
        """Make the changes again that were put back since the start."""
        with self._nobody_else():
            self._table.apply_again(self._undone)
        log.info("what was put back is in force again")

    def switched_off(self) -> None:
        """The master switch was turned off on the Settings page, which cannot be refused: it waits for an image."""
        try:
            self.put_everything_back()
        except Refused:
            log.info("an image is being made; everything is put back when it is done")
            self._inside().when_idle(self._put_back_now)

    def _put_back_now(self) -> None:
        self._undone = self._table.put_back() or self._undone

    def set_options(self, values: Mapping[str, str]) -> None:
        """Set options of the section Flux Speedup, by their whole keys, and save them."""
        switched_off = values.get(SWITCH) == "off"
        if switched_off:
            # Setting it puts everything back at once.
            with self._nobody_else():
                pass
        try:
            self._inside().set_options(values)
        except Refused:
            if switched_off:
                self.apply_again()
            raise

    def disable_left_out(self) -> str:
        """Add what is left out to the WebUI's own list of disabled extensions; a sentence that says what was."""
        names = disabling.disable(self._host.pruner().missing, self._host.cache_folder())
        if not names:
            return "Nothing was changed: all of them are on the WebUI's list already."
        return f"Disabled in the WebUI from the next start on: {', '.join(names)}."

    def undo_disabled(self) -> str:
        """Take what `disable_left_out` added from the WebUI's list again; a sentence that says what was."""
        names = disabling.undo(self._host.cache_folder())
        if not names:
            return "There was nothing to undo."
        return f"Enabled in the WebUI again, from the next start on: {', '.join(names)}."

    def remove_traces(self, *, folder: bool) -> str:
        """Undo every change and take all of ours out of the WebUI's settings; a sentence that says what went.

        `folder`: our own folder with the statistics as well. For whoever removes the extension.
        """
        place = self._host.cache_folder()
        with self._nobody_else():
            # First: the WebUI's settings file is written whole while ours is in force.
            said = traces.remove(place)
            self._put_back_now()
            if folder:
                self._statistics.close()
                said += traces.delete(place)
        log.info("%s", "; ".join(said))
        return f"{'; '.join(said)}. Now delete the extension's folder, and restart the WebUI."

    # Models, figures, this machine.

    def drop(self, key: str | None) -> str:
        """Forget a kept model, or with None free all device memory of models. A sentence on what was freed."""
        inside = self._inside()
        done = inside.free_vram() if key is None else inside.drop(key)
        self._changed()
        return done

    def measure(self) -> Measuring:
        """Begin to measure this machine in the background."""
        try:
            return self._measured.measure()
        except CannotMeasure as why:
            raise Refused(str(why)) from why

    def cancel_measuring(self) -> Measuring:
        return self._measured.cancel("cancelled")

    def pack(self, on: bool) -> PackedNow:
        """Go on making packed files, or stop; what is there of one stays."""
        packing = self._host.packing()
        if packing is None or not packing.now().on:
            raise Refused("packed weights are off")
        packing.stop(not on)
        return packing.now()

    def forget_statistics(self) -> None:
        """Delete every stored event, request and start; measurements of the machine stay."""
        from ..stats.store import StoreError

        try:
            self._statistics.forget()
        except StoreError as error:
            raise Refused(f"the statistics cannot be deleted now ({error})") from error
        log.info("statistics are forgotten")

    def _inside(self) -> Inside:
        return self._host.inside()

    def _nobody_else(self) -> AbstractContextManager[None]:
        return self._inside().nobody_else()
