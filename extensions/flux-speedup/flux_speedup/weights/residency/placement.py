"""Where the weights of every model of this process are: one residency a module, made when it is first needed."""

from __future__ import annotations

import contextlib
import math
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch

from ...stats.report import size
from ..files.mapping import MAPPINGS, FileIdentity, Near, Registry
from ..files.span import find
from ..packed.store import PACKED, Store
from ..transfer.direct import Direct
from ..transfer.item import Item
from ..transfer.lane import Lane, lane_for
from .backing import Backing
from .early import Early
from .inventory import Share
from .report import LoadReport, UnloadReport
from .residency import Residency, starter
from .signature import Signature

_FRESH_S = 4.0
AHEAD = "ahead of its load"


@dataclass(frozen=True)
class Arrival:
    """How the weights of a module came to the device last.

    `source`: "page cache", "disk" or "RAM"; "" where none had to come. `early`: bytes that were on their way before
    they were asked for.
    """

    source: str
    by_backing: Mapping[Backing, int]
    early: int = 0

    def sentence(self) -> str:
        """Bytes by backing, such as "23.7 GB file; 76 MB RAM; 23.7 GB ahead of its load"."""
        parts = [f"{size(count)} {backing.value}" for backing, count in self.by_backing.items() if count]
        return "; ".join([*parts, *([f"{size(self.early)} {AHEAD}"] if self.early else [])])


class Placement:
    """Residencies by module, held weakly. Safe from any thread."""

    def __init__(
        self,
        registry: Registry = MAPPINGS,
        quiet: Callable[[], AbstractContextManager[None]] = nullcontext,
        direct: Direct | None = None,
        lanes: Callable[[torch.device], Lane] = lane_for,
        store: Store = PACKED,
    ) -> None:
        """`quiet`: entered around every load, so that whatever else reads the same disk waits.

        `direct`: gets to hold what loads read, files and memory, in the background, for the loads that follow.
        """
        self.registry = registry
        self._quiet = quiet
        self._direct = direct
        self._lanes = lanes
        self._store = store
        self._lock = threading.Lock()
        self._thread = threading.local()
        self._residencies: weakref.WeakKeyDictionary[torch.nn.Module, Residency] = weakref.WeakKeyDictionary()
        self._arrivals: weakref.WeakKeyDictionary[torch.nn.Module, Arrival] = weakref.WeakKeyDictionary()
        self._inventories: weakref.WeakKeyDictionary[torch.nn.Module, tuple[float, tuple[Share, ...]]]
        self._inventories = weakref.WeakKeyDictionary()
        self._departures: weakref.WeakKeyDictionary[torch.nn.Module, int] = weakref.WeakKeyDictionary()

    def of(self, module: torch.nn.Module) -> Residency:
        """The residency of a module."""
        with self._lock:
            found = self._residencies.get(module)
            if found is None:
                found = self._residencies[module] = Residency(
                    module, registry=self.registry, direct=self._direct, lanes=self._lanes, store=self._store
                )
            return found

    def load(
        self, module: torch.nn.Module, device: torch.device, names: Collection[str] | None = None
    ) -> LoadReport:
        """Bring a module's weights to the device. Raises TransferError: then all of them are as they were."""
        with self._quiet():
            report = self.of(module).load(device, names)
        if report.bytes:
            source = report.source if _from_files(report) else "RAM"
            self._arrivals[module] = Arrival(source, report.by_backing, report.early)
        elif self.of(module).away:
            self._arrivals[module] = Arrival("", {})
        else:
            self._arrivals.pop(module, None)
        if self._direct is not None and report.bytes:
            read = [
                self._store.to_register(path, identity, device) for identity, path in report.files.items()
            ]
            self._direct.hold_soon(read, device)
            if report.by_backing[Backing.HOST]:
                self._direct.hold_memory_soon(self.of(module), names, device)
        return report

    def early(self, tensors: Iterable[torch.Tensor], device: torch.device) -> Early:
        """Views of files that a module is about to be made of; see `Residency.early`, and `take` once it is made.

        Called in the mode, inference or not, in which its parameters are made. Raises TransferError.
        """
        near = Near(self.registry)
        spans = (find(tensor, near) for tensor in tensors)
        inference = torch.is_inference_mode_enabled()
        items = [Item(s, s.dtype, s.shape, inference=inference) for s in spans if s is not None]
        return Early(items, self._lanes(device).beside(), starter(self._direct, self._store), Signature)

    def expect(
        self, module: torch.nn.Module, device: torch.device, names: Collection[str]
    ) -> Callable[[Sequence[tuple[torch.Tensor, torch.Tensor]]], None]:
        """What to tell, while the module runs, of weights with the memory that its owner brought them to."""
        return self.of(module).expect(device, names).arrived

    def unload(
        self, module: torch.nn.Module, names: Collection[str] | None = None, *, besides: int = 0
    ) -> UnloadReport:
        """Let the device memory of a module go. Raises TransferError: then all of it is as it was.

        `besides`: bytes of the module on the device that its owner lets go at the same time.
        """
        report = self.of(module).unload(names, check=not getattr(self._thread, "discarding", False))
        report = replace(report, bytes=report.bytes + besides)
        if names is None:
            self._arrivals.pop(module, None)
        self._departures[module] = report.bytes
        return report

    @contextlib.contextmanager
    def discarding(self) -> Iterator[None]:
        """In here this thread's unloads do not look for what somebody changed on a device: nobody wants it."""
        self._thread.discarding = True
        try:
            yield
        finally:
            self._thread.discarding = False

    def modules(self) -> list[torch.nn.Module]:
        """Modules that anybody has asked about."""
        with self._lock:
            return list(self._residencies)

    def has_mixed(self, identity: FileIdentity) -> bool:
        """Whether a device could read the very pages of this file while they were written over."""
        return self._direct is not None and self._direct.has_mixed(identity)

    def arrival(self, module: torch.nn.Module) -> Arrival | None:
        """How the module's weights came to the device last, if we brought them and they did not leave since."""
        return self._arrivals.get(module)

    def inventory(self, module: torch.nn.Module) -> tuple[Share, ...]:
        """What a module consists of, a few seconds ago at most; while it is being moved, as it was before."""
        at, known = self._inventories.get(module, (-math.inf, ()))
        if time.monotonic() - at > _FRESH_S and (found := self.of(module).inventory()) is not None:
            self._inventories[module] = time.monotonic(), found
            return found
        return known

    def departure(self, module: torch.nn.Module) -> int:
        """Bytes that the module's last unload by us let go; told once."""
        return self._departures.pop(module, 0)


def _from_files(report: LoadReport) -> bool:
    return 2 * report.by_backing[Backing.SPAN] >= report.bytes
