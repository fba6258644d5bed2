"""Weight files that are used are packed while nobody makes an image; what belongs to no file any more goes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from ...storage.file_lock import is_locked
from ..errors import WeightsError
from ..files.mapping import MAPPINGS, FileIdentity, Registry
from ..transfer.idle import QUIET_S, WhileIdle
from .index import lock_of, packed_of
from .packing import packing
from .progress import FileProgress, PackedNow
from .room import ELSEWHERE, Room
from .store import PACKED, Store
from .worth import packs

_log = logging.getLogger("flux_speedup")


class Background:
    """Of one process. `begin` and what it answers with from one thread, `stop` and what it tells from any."""

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
        self._seen: dict[Path, FileIdentity] = {}
        self._files: dict[Path, FileProgress] = {}
        self._packing: tuple[Path, Generator[FileProgress, None, None]] | None = None
        self._state = "off"  # or "on", "stopped"
        self.idle = WhileIdle(busy, self._look, quiet_s)

    def begin(self) -> Callable[[], None]:
        """From now on; answers with its end."""
        self._store.use(self.room.folder)
        threading.Thread(target=self._measure, name="flux-speedup-packed", daemon=True).start()
        self._set("on")
        return self._end

    def stop(self, stopped: bool = True) -> None:
        """Make none, or go on; what is there of one stays. Waits for the tensor at hand."""
        self._set("stopped" if stopped else "on")

    def now(self) -> PackedNow:
        """What there is to tell."""
        if self._state == "off":
            return PackedNow()
        files = tuple(self._told(file) for file in list(self._files.values()))
        return PackedNow("", True, self._state == "stopped", self.room.taken(), self.room.limit, files)

    def _told(self, file: FileProgress) -> FileProgress:
        if file.state in ("packed", "not packed"):
            return file
        if self._state == "stopped":
            return replace(file, state="stopped", why="")
        if not self.idle.is_quiet():
            return replace(file, state="waiting", why="until no image is made")
        return replace(file, why=file.why or "for its turn") if file.state == "waiting" else file

    def _end(self) -> None:
        self._set("off")
        self._store.use(None)

    def _set(self, state: str) -> None:
        self._state = state
        self.idle.clear()
        with self._lock:
            self._close()
            self._seen.clear()
            if state == "off":
                self._files = {}
            elif state == "on":
                self._files = {path: file for path, file in self._files.items() if file.state == "packed"}
                self.idle.add("sweep", self._sweep)

    def _measure(self) -> None:
        try:
            self._store.choice.find(self._device())
            self._store.look_again()
        except Exception as error:  # a card that is full, or gone: then files are read as they are
            _log.info("packed weights: not measured (%s); weight files are read", error)

    def _sweep(self) -> bool:
        for path, whole in self.room.sweep().items():
            if path not in self._files:
                self._add(path, whole)
        self._look()
        return True

    def _look(self) -> bool:
        """Whether to look again: files that are in use and not packed wait for their turn."""
        for mapping in self._registry.live() if self._state == "on" else ():
            path, now = mapping.path, mapping.identity
            if self._seen.get(path) == now or path.suffix.lower() != ".safetensors":
                continue
            if packs(mapping.header.tensors.values()) is None:
                pass
            elif self._store.of(path, now) is not None:
                self._files[path] = FileProgress(path.name, now.size, now.size, "packed")
            elif self._packing is None and is_locked(lock_of(packed_of(now, self.room.folder))):
                self._files[path] = FileProgress(path.name, now.size, 0, "waiting", ELSEWHERE)
                continue  # until it is done, or was given up
            else:
                self._add(path, now.size)
            self._seen[path] = now
        return self._state != "off"

    def _add(self, path: Path, whole: int) -> None:
        self._files[path] = FileProgress(path.name, whole, 0, "waiting")
        self.idle.add(path, partial(self._step, path))

    def _step(self, path: Path) -> bool:
        """A tensor more; whether nothing is left to do."""
        with self._lock:
            if self._state != "on":
                return True
            before = self._files.get(path) or FileProgress(path.name, 0, 0, "waiting")
            try:
                if self._packing is None or self._packing[0] != path:
                    self._close()
                    self._packing = path, packing(path, self.room)
                told = next(self._packing[1])
            except BlockingIOError:
                self._seen.pop(path, None)
                told = replace(before, state="waiting", why=ELSEWHERE)
            except (WeightsError, OSError, MemoryError) as error:
                _log.info("%s: not packed (%s); it is read as it is", path, error)
                told = replace(
                    before,
                    state="not packed",
                    why=getattr(error, "reason", str(error) or "no memory is left"),
                )
                self.idle.add("sweep", self._sweep)  # what is there of it may be of no use any more
            self._files[path] = told
            if told.state in ("packing", "comparing"):
                return False
            self._close()
            if told.state == "packed":
                _log.info("%s is packed", path.name)
                self._store.look_again()
            return True

    def _close(self) -> None:
        if self._packing is not None:
            self._packing[1].close()
            self._packing = None
