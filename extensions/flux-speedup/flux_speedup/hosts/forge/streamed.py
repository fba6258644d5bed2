"""One model of Forge, split: what of it may stream, how large its ring is, and where its bytes come from."""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch

from ...stats.report import size as in_words
from ...weights.named import all_tensors, named_modules
from ...weights.residency.forms import bytes_of, known
from ...weights.residency.placement import Placement
from ...weights.streaming.clock import Clock, Timed
from ...weights.streaming.origin import Origin
from ...weights.streaming.ring import ring_bytes
from ...weights.streaming.split import Owner, Split, units_of
from ...weights.streaming.stream import Stream
from ...weights.streaming.timeline import Timeline
from ...weights.streaming.unit import Unit, named_tensors
from ...weights.transfer.direct import Direct
from ..common.engine import CPU
from ..common.timing import name_of
from .streamed_moves import Moves

RING = 512 << 20
# The host's mark, and what was there before it.
_CAST, _BEFORE = "parameters_manual_cast", "prev_parameters_manual_cast"
log = logging.getLogger("flux_speedup")


@dataclass(frozen=True)
class Means:
    """What a split model is made with. `direct`: None where files cannot be registered."""

    placement: Placement
    timeline: Timeline
    direct: Direct | None


class Streamed:
    """A split model of Forge. `always`: names of what is on the device besides units."""

    def __init__(
        self,
        model: torch.nn.Module,
        units: Mapping[torch.nn.Module, Unit],
        device: torch.device,
        means: Means,
        room: int,
        timed: Timed | None,
    ) -> None:
        """`units`: what of it may stream; they are its own from now on. `room`: bytes for weights and ring.
        `timed`: of the model's last time. Holds the model weakly.

        Raises ValueError where nothing of the model may stream.
        """
        self._means = means
        self.name = name_of(model)
        self.device = device
        self.units = units
        if not self.units:
            raise ValueError("none of its layers can be streamed")
        everything = all_tensors(model)
        own = {id(p) for module in self.units for p in module._parameters.values() if p is not None}
        self.always = {name for name, tensor in everything if id(tensor) not in own}
        self.always_bytes = sum(tensor.nbytes for _, tensor in everything if id(tensor) not in own)
        self._origin = origin = Origin(means.timeline, means.placement.registry, means.direct)
        ring = ring_bytes(room, max(unit.bytes for unit in self.units.values()), RING)
        # What runs once a load does not take RAM from what runs at every step, nor does it wait to be registered.
        kept = origin.kept if hasattr(model, "diffusion_model") else None
        self._soon = device if kept is None else None
        self._changes = origin.changes
        stream = Stream(self.units, means.timeline, origin.supply(), ring, pieces=origin.pieces, kept=kept)
        moves = Moves(means.placement, weakref.ref(model), device)
        here = moves.on_device()
        staying = [unit.number for module, unit in self.units.items() if _names(module, unit) <= here]
        self._moves = moves
        owner = Owner(moves.load, moves.unload, moves.expect, moves.merge, self._set_flags)
        self.split = Split(self.units, stream, owner, staying)
        self._clock: Clock | None = None
        self.timed = timed
        self.least = 0  # bytes that the host alone would have kept free at the last load
        self.take_flags_off()  # of an earlier load, if there are any
        if timed is not None and set(timed.seconds) <= {unit.number for unit in self.units.values()}:
            self.split.measured(timed)
        self._forgotten = weakref.finalize(model, _close_soon, self)  # its parts do not hold the model
        self._forgotten.atexit = False

    @property
    def stream(self) -> Stream:
        return self.split.stream

    @property
    def resident(self) -> int:
        """Bytes of weights on the device."""
        return self.always_bytes + self.split.staying

    @property
    def coming(self) -> int:
        """Bytes of weights that stream."""
        return self.split.streaming - self.split.coming

    @property
    def brought(self) -> int:
        """Bytes that came through the ring so far."""
        return self.stream.figures.bytes

    @property
    def ring(self) -> int:
        return self.stream.ring

    @property
    def held(self) -> int:
        """Bytes of the ring that take memory now."""
        return self.stream.held

    @property
    def source(self) -> str:
        """Where the bytes come from, in words."""
        streamed = self.stream.streamed
        return self._origin.words([unit for unit in self.units.values() if unit.number in streamed])

    def waiting(self) -> Callable[[], float | None]:
        """What answers, once it is measured, which share of the round under way waited for weights."""
        clock = self._clock

        def share() -> float | None:
            timed = clock.result() if clock is not None else None
            return timed.waited / timed.whole if timed is not None and timed.whole > 0 else None

        return share

    def fit(self, budget: int, *, later: bool) -> None:
        """Units that stay take at most `budget` bytes. `later`: those that come do so while the model runs next,
        where that is no slower than at once. Raises WeightsError: some did not come then.
        """
        before = set(self.split.modules)
        self.split.fit(budget, later=later and self._origin.straight)
        if not before.issuperset(self.split.modules):
            self.choose_source()

    def choose_source(self) -> None:
        """See where the bytes of what streams come from, from now on."""
        tensors = [tensor for module in self.split.modules for _, tensor in named_tensors(module)]
        another = self._origin.choose([tensor for tensor in tensors if tensor.device == CPU], self._soon)
        if self._origin.changes != self._changes:
            self._changes = self._origin.changes
            self.stream.forget([unit.number for unit in self.units.values()])
        if another:
            self.stream.set_supply(self._origin.supply())
            self._trim()

    def _trim(self) -> None:
        self.stream.trim(() if self._origin.is_short() else [unit.number for unit in self.units.values()])

    def look_again(self) -> None:
        """At the begin of something new: what was measured counts, and what was written at home."""
        if self._clock is not None and (timed := self._clock.result()) is not None:
            self.timed, self._clock = timed, None
            self.split.measured(timed)
        self.split.stop_coming()
        if self._origin.changes != self._changes:
            self.choose_source()
        if self._origin.changed():
            self.stream.forget([unit.number for unit in self.units.values()])
        self._trim()

    def measure(self) -> None:
        """Time a round, if none is being timed; nothing to time where nothing streams, or soon will not."""
        if self._clock is None and self.split.streaming > self.split.coming:
            self._clock = self.split.clock(self._means.timeline)

    def give_way(self, size: int) -> int:
        """So many bytes of units that stay leave; how many went. Raises WeightsError where one cannot leave."""
        gone = self.split.give_way(size)
        if gone:
            self.choose_source()
        return gone

    def leave(self) -> None:
        """Nothing of it is on the device any more. Raises WeightsError where something cannot leave."""
        self.split.give_way(sum(unit.bytes for unit in self.units.values()))
        self._moves.unload(self.always)
        self.take_flags_off()  # nobody is left who would

    def close(self) -> None:
        self._forgotten.detach()
        if self._clock is not None:
            self._clock.stop()
        self.split.close()
        self._origin.close()

    def sentence(self) -> str:
        """What stays, what streams, and how."""
        stay, stream = in_words(self.resident + self.split.coming), in_words(self.coming)
        ring = in_words(self.stream.ring)
        return f"{stay} stay on the card, {stream} stream through a ring of {ring} ({self.source})"

    def take_flags_off(self) -> None:
        """The host finds no mark on any layer."""
        for module in self.units:
            self._set_flags(module, False)

    def _set_flags(self, module: torch.nn.Module, at_home: bool) -> None:
        """As the host marks what it swaps: then it moves by itself whatever is not there when it is needed."""
        own = vars(module)
        if at_home and _BEFORE not in own:
            own[_BEFORE], own[_CAST] = getattr(module, _CAST), True
        elif not at_home and _BEFORE in own:
            own[_CAST] = own.pop(_BEFORE)


def _close_soon(streamed: Streamed) -> None:
    """Its model is gone, and the host tells nobody. It died anywhere, so nothing is waited for here."""
    with contextlib.suppress(RuntimeError):  # no more threads here
        threading.Thread(target=streamed.close, name="flux-speedup-forgotten", daemon=True).start()


def streamable(model: torch.nn.Module) -> Mapping[torch.nn.Module, Unit]:
    """The layers that the host itself could swap, but for embeddings (of which a few rows are used)."""
    if any(getattr(part, "_compiled_call_impl", None) is not None for _, part in named_modules(model)):
        return {}
    return units_of(model, _may_stream, bytes_of)


def least(model: torch.nn.Module, units: Mapping[torch.nn.Module, Unit], here: Collection[str]) -> int:
    """Bytes without which it cannot run: what cannot stream, and a small ring.

    `units`: what can stream. `here`: names that are there.
    """
    own = {id(each) for module in units for each in module._parameters.values()}
    home = {id(tensor): tensor.nbytes for name, tensor in all_tensors(model) if name not in here}
    fixed = sum(size for tensor, size in home.items() if tensor not in own)
    return min(sum(home.values()), fixed + 3 * max(unit.bytes for unit in units.values()))


def _may_stream(module: torch.nn.Module) -> bool:
    if not hasattr(module, "parameters_manual_cast") or isinstance(module, torch.nn.Embedding):
        return False
    own = [parameter for parameter in module._parameters.values() if parameter is not None]
    return all(known(p) for p in own) and not module._buffers


def _names(module: torch.nn.Module, unit: Unit) -> set[str]:
    return {f"{unit.name}.{name}" for name, one in module._parameters.items() if one is not None}
