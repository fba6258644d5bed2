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
from .backing import Backing, prove
from .data import own_copy, set_data
from .forms import companions_of
from .going import Departure, departures
from .inventory import Share, inventory
from .report import LoadReport, UnloadReport
from .returning import changed, way_home
from .roster import Entry, Roster
from .signature import Signature
from .state import AtHome, OnDevice, Place, is_on

STAGING = Arena()
"""The staging arena of this process."""


class Runner(Protocol):
    """What runs a transfer: `transfer` with an arena, or a stand-in."""

    def __call__(
        self, items: Sequence[Item], lane: Lane, *, arrived: Arrived | None
    ) -> list[torch.Tensor]: ...


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
        lanes: Callable[[torch.device], Lane] = lane_for,
        run: Runner | None = None,
        save: Callable[[torch.Tensor], torch.Tensor] = own_copy,
        direct: Direct | None = None,
        signed: Callable[[Sequence[int], torch.device], Signature] = Signature,
    ) -> None:
        self._signed = signed
        self._roster = Roster(module, registry)
        self._registry = registry
        self._lanes = lanes
        self._run: Runner = run or partial(transfer, arena=arena, direct=direct)
        self._save = save
        self._lock = threading.RLock()

    def load(self, device: torch.device, names: Collection[str] | None = None) -> LoadReport:
        """Bring the weights (or those of `names`) to the device; what is there already stays as it is.

        Raises TransferError: then every parameter is as it was. The caller's stream may use them at once.
        """
        with self._lock:
            started = time.perf_counter()
            entries = self._roster.entries(names)
            by_backing = self._bring(departures(entries, self._registry), device)
            now = [(entry, self._roster.state(entry.tensor)) for entry in entries]
            skipped = _names(entry for entry, state in now if not is_on(entry.tensor, state, device))
            seconds = time.perf_counter() - started
            return LoadReport(sum(by_backing.values()), seconds, by_backing, skipped)

    def unload(self, names: Collection[str] | None = None) -> UnloadReport:
        """Give the weights (or those of `names`) their home's data back and let the device memory go.

        What somebody changed on the device is copied to RAM first. Takes no memory on the device. Raises
        TransferError where there is no RAM for that: then everything is as it was.
        """
        started = time.perf_counter()
        with self._lock:
            entries = self._roster.entries(names)
            there = _there(entries)
            spoiled = changed(there)
            dropped = sum(tensor.nbytes for tensor, _ in there)
            self._take_home(there, spoiled)
            return UnloadReport(
                dropped,
                time.perf_counter() - started,
                copied_back=_names(entry for entry in entries if id(entry.tensor) in spoiled),
            )

    def leaving(self, names: Collection[str]) -> Callable[[torch.Tensor], None]:
        """`unload` for one weight at a time, while their owner puts others in their places: all are checked now.

        The answer takes such a weight home; where it is at home, or was moved meanwhile, nothing happens. It is
        good until the next load or unload, and while nobody writes on the device. Raises what `unload` raises.
        """
        with self._lock:
            spoiled = changed(_there(self._roster.entries(names)))

        def leave(tensor: torch.Tensor) -> None:
            with self._lock:
                own = [(each, self._roster.state(each)) for each in (tensor, *companions_of(tensor).values())]
                self._take_home([(t, state) for t, state in own if isinstance(state, OnDevice)], spoiled)

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

    def movable(self) -> frozenset[str]:
        """Names of what is at home, or on a device by our doing."""
        with self._lock:
            known = [e for e in self._roster.entries() if isinstance(e.state, (AtHome, OnDevice))]
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
            return _names(e for e in self._roster.entries() if isinstance(e.state, OnDevice))

    def _bring(self, going: list[Departure], device: torch.device) -> dict[Backing, int]:
        """All of these to the device, or none. Raises TransferError."""
        by_backing = dict.fromkeys(Backing, 0)
        if not going:
            return by_backing
        signature, new = self._transferred(going, device)
        try:
            _make_all(going, new, signature)
            set_data([(departure.tensor, data) for departure, data in zip(going, new, strict=True)])
        except Exception as error:  # what makes is the host's
            new.clear()
            raise _nothing_placed(device, error) from error
        for number, (departure, data) in enumerate(zip(going, new, strict=True)):
            place, recipe = Place.of(departure.tensor), departure.recipe
            state = OnDevice(departure.home, place, departure.backing, signature, number, recipe)
            self._roster.note(departure.tensor, state)
            if recipe is not None:
                recipe.arrived(departure.tensor)
            by_backing[departure.backing] += data.nbytes
        return by_backing

    def _transferred(
        self, going: list[Departure], device: torch.device
    ) -> tuple[Signature, list[torch.Tensor]]:
        lane = self._lanes(device)
        try:
            # Before the weights: what dropping them safely takes must not be what is missing then.
            signature = self._signed([departure.bytes for departure in going], device)
        except RuntimeError as error:
            raise _nothing_placed(device, error) from error

        def arrived(number: int, tensor: torch.Tensor) -> None:
            if going[number].recipe is None:
                signature.add(number, tensor)

        return signature, self._run([departure.item for departure in going], lane, arrived=arrived)

    def _take_home(self, there: list[tuple[torch.Tensor, OnDevice]], spoiled: set[int]) -> None:
        set_data(way_home(there, spoiled, self._save))
        for tensor, state in there:
            self._roster.forget(tensor)
            if state.recipe is not None and id(tensor) not in spoiled:
                state.recipe.left(tensor)


def _there(entries: Iterable[Entry]) -> list[tuple[torch.Tensor, OnDevice]]:
    return [(entry.tensor, entry.state) for entry in entries if isinstance(entry.state, OnDevice)]


def _make_all(going: Sequence[Departure], new: list[torch.Tensor], signature: Signature) -> None:
    """In the place of the bytes that have arrived, one after the other, what the host makes of them."""
    for number, departure in enumerate(going):
        recipe = departure.recipe
        if recipe is not None:
            with torch.inference_mode(departure.item.inference), torch.no_grad():
                made = new[number] = recipe.make(new[number])
            if (made.dtype, tuple(made.shape)) != (recipe.dtype, recipe.shape):
                raise ValueError(
                    f"{made.dtype} {tuple(made.shape)} was made, not {recipe.dtype} {recipe.shape}"
                )
            signature.add(number, made)


def _nothing_placed(device: torch.device, error: Exception) -> TransferError:
    traceback.clear_frames(error.__traceback__)
    memory = isinstance(error, OUT_OF_MEMORY)
    return TransferError(None, f"nothing was placed on {device} ({error})", out_of_memory=memory)


def _names(entries: Iterable[Entry]) -> tuple[str, ...]:
    return tuple(name for entry in entries for name in entry.names)
