"""A module's weights on a device: loaded from where they are backed, dropped without moving a byte."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol

import torch

from ..errors import OUT_OF_MEMORY, TransferError
from ..files.mapping import MAPPINGS, Registry
from ..transfer.direct import Direct
from ..transfer.item import Item
from ..transfer.lane import Lane, lane_for
from ..transfer.run import Arrived
from ..transfer.staging import Arena
from ..transfer.transfer import transfer
from .backing import Backing, classify
from .digest import Digest
from .entry import Entry, own_copy, set_data
from .going import backing_now, file_view, growth, item_of, prepare, undo_cast
from .report import LoadReport, UnloadReport
from .returning import dirty, way_home
from .roster import Roster

STAGING = Arena()
"""The staging arena of this process."""


class Runner(Protocol):
    """What runs a transfer: `transfer` with an arena, or a stand-in."""

    def __call__(
        self, items: Sequence[Item], lane: Lane, *, arrived: Arrived | None
    ) -> list[torch.Tensor]: ...


class Residency:
    """Where the weights of one module are. Holds the module weakly; one call at a time, from any thread.

    A parameter's object never changes, only its data does. Whatever cannot be moved here (Backing.NONE:
    quantised, or on a device by somebody else's doing) is left alone and named in the reports as skipped.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        registry: Registry = MAPPINGS,
        arena: Arena = STAGING,
        lanes: Callable[[torch.device], Lane] = lane_for,
        run: Runner | None = None,
        digests: bool = True,
        save: Callable[[torch.Tensor], torch.Tensor] = own_copy,
        direct: Direct | None = None,
    ) -> None:
        self._roster = Roster(module)
        self._registry = registry
        self._lanes = lanes
        self._run: Runner = run or partial(transfer, arena=arena, direct=direct)
        self._digests = digests
        self._save = save
        self._lock = threading.RLock()

    def load(self, device: torch.device, names: Collection[str] | None = None) -> LoadReport:
        """Bring the weights (or those of `names`) to the device; what is there already stays as it is.

        Raises TransferError: then every parameter is as it was. The caller's stream may use them at once.
        """
        with self._lock:
            return self._load([entry for entry in self._roster.chosen(names) if not entry.away], device)

    def unload(self, names: Collection[str] | None = None) -> UnloadReport:
        """Give the weights (or those of `names`) their host data back and let the device memory go.

        What somebody unknown changed on the device is copied to RAM first. Raises TransferError where there
        is no room for that: then everything is as it was.
        """
        started = time.perf_counter()
        with self._lock:
            self._roster.put_back_replaced(names)
            entries = self._roster.chosen(names)
            away = [entry for entry in entries if entry.away]
            spoiled = dirty(away)
            dropped = sum(entry.tensor.nbytes for entry in away)
            set_data(way_home(away, spoiled, self._save))
            report = UnloadReport(
                dropped,
                time.perf_counter() - started,
                merged=_names(entry for entry in away if entry.merged),
                copied_back=_names(spoiled),
                skipped=_names(e for e in entries if not e.away and classify(e.tensor)[0] is Backing.NONE),
            )
            for entry in away:
                entry.come_home()
        return report

    def reload(self, device: torch.device, names: Collection[str]) -> LoadReport:
        """Clean bytes again for those of `names` that are marked merged; they no longer are.

        Their merged data is let go first, so that both never take memory at once: after a TransferError
        they are at home, clean.
        """
        with self._lock:
            self._roster.put_back_replaced(names)
            chosen = [entry for entry in self._roster.chosen(names) if entry.away and entry.merged]
            set_data(way_home(chosen, (), self._save))
            for entry in chosen:
                entry.come_home()
            return self._load(chosen, device)

    def mark_merged(self, names: Iterable[str]) -> None:
        """The owner of these has replaced their data (or parameter) on the device, and can do so again.

        They are dropped at unload, not saved. Our reference to their clean device memory is let go.
        """
        with self._lock:
            self._roster.mark_merged(names)

    def marker(self) -> Callable[[str], None]:
        """`mark_merged` for one name at a time, where every parameter's object stays: looks at them once, now.

        The answer is good until the next load or unload; names that are not on a device are passed over.
        """
        with self._lock:
            away = {name: entry for entry in self._roster.chosen() if entry.away for name in entry.names}

        def mark(name: str) -> None:
            entry = away.get(name)
            if entry is not None:
                entry.set_merged()

        return mark

    def adopt(self, sources: Mapping[str, torch.Tensor], least: int = 0) -> tuple[str, ...]:
        """Let RAM go that the file has as well: `sources` are the file's tensors by the module's names.

        Proven bit for bit, once, reading both; tensors under `least` bytes are left alone. One that the host
        has cast has, while at home, the file's dtype; on the device it has its own. Before anybody else
        moves or computes with such a one at home, call `undo_casts`.
        """
        adopted: list[str] = []
        with self._lock:
            for entry in self._roster.chosen():
                source = next((sources[name] for name in entry.names if name in sources), None)
                if source is None or entry.away or entry.tensor.nbytes < least:
                    continue
                dtype, view = entry.tensor.dtype, file_view(entry, source, self._registry)
                if view is None:
                    continue
                if view.dtype != dtype:
                    self._roster.remember_cast(entry, dtype, view)
                set_data([(entry.tensor, view)])
                adopted += entry.names
        return tuple(adopted)

    def undo_casts(self) -> None:
        """Give every adopted weight that is cast its RAM tensor back (cast on the CPU)."""
        with self._lock:
            for entry in self._roster.chosen() if self._roster.casts else ():
                undo_cast(entry)

    @property
    def growth(self) -> int:
        """Bytes that what is at home takes more on the device, as it is cast there."""
        with self._lock:
            return sum(growth(entry) for entry in self._roster.chosen()) if self._roster.casts else 0

    def backings(self) -> dict[Backing, int]:
        """Bytes by backing as they are now; what is on the device counts by what stands behind it."""
        totals = dict.fromkeys(Backing, 0)
        with self._lock:
            for entry in self._roster.chosen():
                size = entry.tensor.numel() * entry.tensor.element_size()
                totals[backing_now(entry, self._registry)] += size
        return totals

    @property
    def away(self) -> bool:
        """Whether there may be something on a device by our doing; costs less than `resident`."""
        with self._lock:
            return self._roster.away

    @property
    def resident(self) -> tuple[str, ...]:
        """Names whose data is on a device by our doing."""
        with self._lock:
            return _names(entry for entry in self._roster.chosen() if entry.away)

    @property
    def merged(self) -> tuple[str, ...]:
        """Names on a device whose data their owner has replaced."""
        with self._lock:
            return _names(entry for entry in self._roster.chosen() if entry.away and entry.merged)

    @property
    def device(self) -> torch.device:
        """The device that weights are on by our doing; the CPU where there are none."""
        with self._lock:
            away = (entry.tensor.device for entry in self._roster.chosen() if entry.away)
            return next(away, torch.device("cpu"))

    def _load(self, entries: list[Entry], device: torch.device) -> LoadReport:
        started = time.perf_counter()
        ready, left = prepare(entries, self._registry)
        items = [item_of(entry) for entry in ready]
        digest = Digest([item.bytes for item in items]) if self._digests else None
        new = self._run(items, self._lanes(device), arrived=None if digest is None else digest.add)
        try:
            sums = [None] * len(new) if digest is None else digest.result().unbind()
            homes = [entry.tensor.data for entry in ready]
            set_data([(entry.tensor, data) for entry, data in zip(ready, new, strict=True)])
        except RuntimeError as error:
            new.clear()
            traceback.clear_frames(error.__traceback__)
            memory = isinstance(error, OUT_OF_MEMORY)
            reason = f"nothing was placed on {device} ({error})"
            raise TransferError(None, reason, out_of_memory=memory) from error
        by_backing = dict.fromkeys(Backing, 0)
        for entry, data, home, checksum in zip(ready, new, homes, sums, strict=True):
            entry.host, entry.device, entry.checksum = home, data, checksum
            by_backing[entry.backing] += data.nbytes
        seconds = time.perf_counter() - started
        return LoadReport(sum(by_backing.values()), seconds, by_backing, _names(left))


def _names(entries: Iterable[Entry]) -> tuple[str, ...]:
    return tuple(name for entry in entries for name in entry.names)
