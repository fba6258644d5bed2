"""Forge swaps a model that does not fit from pinned memory; ours pins what stays in RAM, before the host does."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Collection, Iterator
from typing import Any

from ...weights.named import all_tensors
from ...weights.transfer.pinned import HOMES, PinnedHomes
from ...weights.transfer.registration import Refused
from ..common.engine import CPU

log = logging.getLogger("flux_speedup")


class Pinning:
    """`manager` is everywhere the host's, whose PIN_SHARED_MEMORY says whether it pins."""

    def __init__(self, homes: PinnedHomes = HOMES, kinds: frozenset[str] = frozenset({"cuda"})) -> None:
        """`kinds`: of devices that copy faster from such memory."""
        self._homes = homes
        self._kinds = kinds
        self._thread = threading.local()

    @contextlib.contextmanager
    def during_load(self, manager: Any) -> Iterator[None]:
        """A load of the host; afterwards it pins again, if it did before."""
        try:
            yield
        finally:
            if self._thread.__dict__.pop("stopped", False):
                manager.PIN_SHARED_MEMORY = True

    def others(self, manager: Any, loaded: Any, names: Collection[str]) -> None:
        """Pin all weights but `names`, which are on the device, where the host is about to."""
        if not manager.PIN_SHARED_MEMORY or loaded.model.offload_device != CPU:
            return
        if loaded.device.type not in self._kinds:
            return
        model = loaded.model.model
        try:
            everything = self._homes.pin([tensor for name, tensor in all_tensors(model) if name not in names])
        except Refused as error:
            log.warning("weights cannot be pinned in one block (%s); the WebUI pins each by itself", error)
            return
        if not everything:
            # It would pin what there is no room for. It reads this once the modules are told apart.
            manager.PIN_SHARED_MEMORY = False
            self._thread.stopped = True
