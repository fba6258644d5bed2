"""Weight files that are used are packed while nobody makes an image; what belongs to no file any more goes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from ...stats.report import size
from ..errors import WeightsError
from ..files.mapping import MAPPINGS, FileIdentity, Registry
from ..files.step_back import step_back
from ..transfer.idle import QUIET_S, WhileIdle
from .file import worth_packing
from .packing import LEAST, Packing
from .room import Room
from .store import PACKED, Store

_log = logging.getLogger("flux_speedup")


class Background:
    """Of one process. `begin` and what it answers with from one thread, the rest is its own."""

    def __init__(
        self,
        folder: Path,
        busy: Callable[[], bool],
        device: Callable[[], torch.device],
        *,
        limit: int = 0,
        registry: Registry = MAPPINGS,
        store: Store = PACKED,
        quiet_s: float = QUIET_S,
    ) -> None:
        """`busy`: whether somebody computes. `device`: for which it is measured how fast it decodes."""
        self.room = Room(folder, limit, let_go=store.look_again)
        self._device = device
        self._registry = registry
        self._store = store
        self._lock = threading.Lock()
        self._seen: set[FileIdentity] = set()
        self._packing: Packing | None = None
        self._on = False
        self.idle = WhileIdle(busy, self._look, quiet_s)

    def begin(self) -> Callable[[], None]:
        """From now on; answers with its end."""
        self._on = True
        self._seen.clear()
        self._store.open(self.room.folder)
        threading.Thread(target=self._measure, name="flux-speedup-packed", daemon=True).start()
        self.idle.add("sweep", self._sweep)
        return self._end

    def _end(self) -> None:
        self._on = False
        self.idle.clear()
        self._store.close()
        with self._lock:
            self._close()

    def _measure(self) -> None:
        try:
            self._store.measure(self._device())
        except Exception as error:  # a card that is full, or gone: then files are read as they are
            _log.info("packed weights: not measured (%s); weight files are read", error)

    def _sweep(self) -> bool:
        step_back()
        self.room.sweep()
        return True

    def _look(self) -> bool:
        """Whether to look again: files that are in use and not packed wait for their turn."""
        for mapping in self._registry.live() if self._on else ():
            if mapping.identity in self._seen or mapping.path.suffix.lower() != ".safetensors":
                continue
            self._seen.add(mapping.identity)
            whole, saved = worth_packing(mapping.header.tensors.values())
            if whole and saved >= LEAST * whole and self._store.of(mapping.path, mapping.identity) is None:
                self.idle.add(mapping.identity, partial(self._step, mapping.path))
        return self._on

    def _step(self, path: Path) -> bool:
        """A tensor more; whether nothing is left to do."""
        with self._lock:
            try:
                if self._on and self._packing is None:
                    self._packing = Packing(path, self.room)
                if self._on and self._packing is not None and not self._packing.step():
                    return False
                if self._on and self._packing is not None:
                    self._store.look_again()
                    _log.info("%s is packed: %s", path.name, size(self._packing.size))
            except (WeightsError, OSError) as error:
                _log.info("%s: not packed (%s); it is read as it is", path, error)
            self._close()
            return True

    def _close(self) -> None:
        if self._packing is not None:
            self._packing.close()
            self._packing = None
