"""A module's weights on a device: loaded from where they are backed, dropped without moving a byte."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial

import torch

from ...collector import paused
from ..errors import TransferError
from ..files.mapping import MAPPINGS, Registry
from ..packed.store import PACKED, Store
from ..transfer.direct import Direct
from ..transfer.lane import Lane, lane_for
from ..transfer.staging import Arena
from ..transfer.transfer import Underway, transfer
from .arriving import Arriving
from .backing import Backing, prove
from .data import own_copy, set_data
from .early import Early, Starter, nothing_placed
from .forms import companions_of
from .going import Departure, departures
from .inventory import Share, inventory
from .landing import Landing, More, Runner
from .looking import Looking
from .report import LoadReport, UnloadReport
from .returning import changed, learn, way_home
from .roster import Entry, Roster
from .shells import parts_of
from .signature import Signature
from .state import AtHome, OnDevice, is_on

FIRST = 512 << 20
"""Bytes of weights that a load looks at first, and then twice as many each time, while the bus brings those before
them: that takes longer."""
STAGING = Arena()
"""The staging arena of this process."""
BEFORE = Arena()
"""For what comes before it is asked for: what is asked for meanwhile does not wait for it."""


def starter(direct: Direct | None, store: Store, before: Arena = BEFORE) -> Starter:
    """What starts the transfers of what comes before it is asked for."""
    return partial(Underway, arena=before, direct=direct, store=store)


class Residency:
    """Where the weights of one module are. Holds the module weakly; one call at a time, from any thread.

    A parameter's object never changes here, only its data does. Whatever cannot be moved (quantised, or on a
    device by somebody else's doing) is left alone.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        registry: Registry = MAPPINGS,
        arena: Arena = STAGING,
        before: Arena = BEFORE,
        lanes: Callable[[torch.device], Lane] = lane_for,
        run: Runner | None = None,
        start: Starter | None = None,
        save: Callable[[torch.Tensor], torch.Tensor] = own_copy,
        direct: Direct | None = None,
        signed: Callable[..., Signature] = Signature,
        store: Store = PACKED,
        first: int = FIRST,
    ) -> None:
        self._first = first
        self._roster = Roster(module, registry)
        self._registry = registry
        start = start or starter(direct, store, before)
        run = run or partial(transfer, arena=arena, direct=direct, store=store)
        self._landing = Landing(lanes, run, start, signed)
        self._save = save
        self._lock = threading.RLock()

    def early(self, device: torch.device) -> Early:
        """Weights from files, to start on their way: the next `load` finds what has come.

        Parameters stay as they are until then. Raises TransferError.
        """
        with self._lock:
            return self._landing.early(departures(self._roster.entries(), self._registry), device)

    def take(self, early: Early) -> None:
        """The next `load` finds what has come of this, as of `early`: of a model that was not built yet."""
        with self._lock:
            self._landing.take(early)

    def load(self, device: torch.device, names: Collection[str] | None = None) -> LoadReport:
        """Bring the weights (or those of `names`) to the device; what is there already stays as it is.

        Raises TransferError: then every parameter is as it was. The caller's stream may use them at once.
        """
        with self._lock, paused():
            started = time.perf_counter()
            looking = Looking(self._roster.look(names), self._registry, self._first)
            try:
                by_backing, early = self._bring(looking.part(), device, looking.part)
            except BaseException:
                self._landing.stop()  # what is on its way, too: whoever moves them now needs its room
                raise
            gone = {id(departure.tensor) for departure in looking.going}
            rest = [entry for entry in looking.entries if id(entry.tensor) not in gone]
            skipped = _names(each for each in rest if not is_on(each.tensor, each.state, device))
            seconds, size = time.perf_counter() - started, sum(by_backing.values())
            files = looking.files
            return LoadReport(size, seconds, by_backing, skipped, early, files, looking.source)

    def unload(self, names: Collection[str] | None = None, *, check: bool = True) -> UnloadReport:
        """Give the weights (or those of `names`) their home's data back and let the device memory go.

        What somebody changed on the device is copied to RAM first; without `check` nobody looks, and it is lost.
        Takes no memory on the device. Raises TransferError where there is no RAM for that: then everything is as
        it was.
        """
        started = time.perf_counter()
        with self._lock, paused():
            self._landing.stop()
            entries = self._roster.entries(names, ours=True)
            # What the host has put others in the place of may be alive: whoever keeps models keeps it.
            entries += self._roster.replaced(entries) if names is None else []
            there = _there(entries)
            spoiled: set[int] = set()
            if check:
                spoiled = changed(there)
            else:
                learn(there)
            dropped = sum(tensor.nbytes for tensor, _ in there)
            self._take_home(there, spoiled)
            return UnloadReport(
                dropped,
                time.perf_counter() - started,
                copied_back=_names(entry for entry in entries if id(entry.tensor) in spoiled),
            )

    def expect(self, device: torch.device, names: Collection[str]) -> Arriving:
        """`load`, while somebody else brings the bytes: told of each weight, the answer makes it ours.

        Raises TransferError where one of them is not at home, or there is no room for the checksums.
        """
        with self._lock:
            self._landing.stop()
            entries = self._roster.entries(names)
            going = departures(entries, self._registry)
            if len(going) != len(entries):
                raise TransferError(None, "some of them are not to be brought as they are at home")
            return Arriving(going, self._landing.signature(going, device), self._roster, self._lock)

    def leaving(self, names: Collection[str], fresh: Collection[str] = ()) -> Callable[[torch.Tensor], None]:
        """`unload` for one weight at a time, while their owner puts others in their places: all are checked now but
        `fresh` ones, which have just come.

        The answer takes such a weight home; where it is at home, or was moved meanwhile, nothing happens. It is
        good until the next load or unload, and while nobody writes on the device. Raises what `unload` raises.
        """
        with self._lock:
            spoiled = changed(_there(self._roster.entries(set(names).difference(fresh), ours=True)))

        def leave(tensor: torch.Tensor) -> None:
            with self._lock:
                own = (tensor, *companions_of(tensor).values(), *parts_of(tensor).values())
                states = [(each, self._roster.state(each)) for each in own]
                self._take_home([(t, state) for t, state in states if isinstance(state, OnDevice)], spoiled)

        return leave

    def adopt(self, sources: Mapping[str, torch.Tensor], least: int = 0) -> tuple[str, ...]:
        """Let RAM go that the file has as well: `sources` are the file's tensors by the module's names.

        Proven bit for bit, once, reading both; tensors under `least` bytes are left alone.
        """
        adopted: list[str] = []
        with self._lock:
            for entry in self._roster.entries():
                source = next((sources[name] for name in entry.names if name in sources), None)
                in_ram = isinstance(entry.state, AtHome) and entry.state.backing is Backing.HOST
                if source is None or not in_ram or entry.tensor.nbytes < least:
                    continue
                if prove(source, entry.tensor, self._registry) is not None:
                    set_data([(entry.tensor, source.detach())])
                    adopted += entry.names
        return tuple(adopted)

    def backings(self) -> dict[Backing, int]:
        """Bytes by backing as they are now; what is on the device counts by what stands behind it."""
        totals = dict.fromkeys(Backing, 0)
        with self._lock:
            for entry in self._roster.entries():
                backing = entry.state.backing if isinstance(entry.state, (AtHome, OnDevice)) else Backing.NONE
                totals[backing] += entry.tensor.numel() * entry.tensor.element_size()
        return totals

    def inventory(self) -> tuple[Share, ...] | None:
        """What it consists of, as it is now; None while it is being moved: nobody waits for that."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            return inventory(self._roster.entries())
        finally:
            self._lock.release()

    def homes(self, names: Collection[str] | None = None) -> list[torch.Tensor]:
        """Memory in RAM that weights (or those of `names`) come from; none while they are being moved: nobody waits
        for that."""
        if not self._lock.acquire(blocking=False):
            return []
        try:
            entries = self._roster.entries(names)
            states = ((entry.tensor, entry.state) for entry in entries)
            return [
                state.home if isinstance(state, OnDevice) else tensor.data
                for tensor, state in states
                if isinstance(state, (AtHome, OnDevice)) and state.backing is Backing.HOST
            ]
        finally:
            self._lock.release()

    def movable(self, names: Collection[str] | None = None) -> frozenset[str]:
        """Names (or those of `names`) of what is at home, or on a device by our doing."""
        with self._lock:
            known = [e for e in self._roster.entries(names) if isinstance(e.state, (AtHome, OnDevice))]
            return frozenset(_names(known))

    @property
    def away(self) -> bool:
        """Whether there may be something on a device by our doing; costs less than `resident`."""
        with self._lock:
            return self._roster.away

    @property
    def resident(self) -> tuple[str, ...]:
        """Names whose data is on a device by our doing."""
        with self._lock:
            return _names(self._roster.entries(ours=True))

    @property
    def held(self) -> frozenset[int]:
        """Ids of the tensors that are on a device by our doing."""
        with self._lock:
            return frozenset(id(tensor) for tensor in self._roster.there())

    def _bring(
        self, going: list[Departure], device: torch.device, more: More
    ) -> tuple[dict[Backing, int], int]:
        """All of these and `more` ones to the device, or none; bytes by backing, and how many came early."""
        by_backing = dict.fromkeys(Backing, 0)
        landed, early = self._landing.all(going, device, more)
        try:
            set_data([(departure.tensor, data) for departure, (data, _) in landed])
        except Exception as error:
            landed.clear()
            raise nothing_placed(device, error) from error
        for departure, (data, state) in landed:
            self._roster.note(departure.tensor, state)
            if state.recipe is not None:
                state.recipe.arrived(departure.tensor)
            by_backing[state.backing] += data.nbytes
        return by_backing, early

    def _take_home(self, there: list[tuple[torch.Tensor, OnDevice]], spoiled: set[int]) -> None:
        set_data(way_home(there, spoiled, self._save))
        for tensor, state in there:
            self._roster.forget(tensor)
            if state.recipe is not None and id(tensor) not in spoiled:
                state.recipe.left(tensor)


def _there(entries: Iterable[Entry]) -> list[tuple[torch.Tensor, OnDevice]]:
    return [(entry.tensor, entry.state) for entry in entries if isinstance(entry.state, OnDevice)]


def _names(entries: Iterable[Entry]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for entry in entries for name in entry.names))
