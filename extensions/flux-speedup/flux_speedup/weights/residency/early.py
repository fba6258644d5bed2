"""Weights on their way to a device before anybody asks for them: what a load then asks for, it finds there.

Only what comes from a file: its bytes cannot change on the way without being another span. So they can be on their
way before the model that they are for is built.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

import torch

from ...interpreter import handed_over_often
from ..errors import TransferError, let_go
from ..files.span import Span
from ..transfer.item import Item
from ..transfer.lane import Lane
from ..transfer.run import Arrived, Patience, Stopped
from .going import Departure
from .signature import Signature
from .state import OnDevice

_log = logging.getLogger("flux_speedup")


class Underway(Protocol):
    """A transfer that goes on by itself; see `weights.transfer.transfer.Underway`."""

    @property
    def reads(self) -> bool: ...

    def complete(self) -> None: ...

    def result(self) -> list[torch.Tensor]: ...

    def stop(self) -> None: ...


class Starter(Protocol):
    """What starts one. Raises TransferError."""

    def __call__(
        self,
        items: Sequence[Item],
        lane: Lane,
        *,
        arrived: Arrived | None,
        patience: Patience | None,
    ) -> Underway: ...


Landed = tuple[torch.Tensor, OnDevice]
"""New memory on the device with a weight's bytes, and what is to be noted of that."""


class Early:
    """One model's weights that come before they are asked for. Used once: begun, then claimed or stopped.

    Safe from any thread; claimed or stopped before it was begun, it never is. In bytes: `size` of all of them,
    `bytes` that they take on `device` now, or soon, `came` before a load, `used` by it. `files`: that they are of.
    """

    def __init__(
        self, items: Sequence[Item], lane: Lane, start: Starter, signed: Callable[..., Signature]
    ) -> None:
        """`lane`: made on the thread, and with the stream, that is to use them."""
        self._items = items
        self._lane = lane
        self._start = start
        self._signed = signed
        self._lock = threading.Lock()
        self._over = not items
        self._patience = Patience()
        self._underway: Underway | None = None
        self._signature: Signature | None = None
        self.device = lane.device
        self.size = sum(item.bytes for item in items)
        self.files = frozenset(item.origin.identity for item in items if isinstance(item.origin, Span))
        self.bytes = self.came = self.used = 0

    def begin(self, *, patient: bool = False) -> int:
        """They start on their way; the bytes that they take from now on.

        `patient`: what somebody asks for meanwhile is let by on the bus. Where they go straight this takes as long
        as they do then; who claims them waits for it, and it is over with patience.
        Raises TransferError, and Stopped where they are stopped meanwhile: nothing is on its way then, nor ever
        will be.
        """
        with self._lock:
            if self._over:
                return 0
            self.bytes = self.size
            try:
                with self._lane.calling():
                    sizes, keys = [item.bytes for item in self._items], [item.key for item in self._items]
                    signature = self._signed(sizes, self.device, alone=True, keys=keys)
                    self._underway = self._start(
                        self._items,
                        self._lane,
                        arrived=signature.add,
                        patience=self._patience if patient else None,
                    )
            except BaseException as error:
                self._over, self.bytes = True, 0
                if isinstance(error, RuntimeError):
                    raise nothing_placed(self.device, error) from error
                raise
            self._signature = signature
            return self.bytes

    def complete(self, *, read: bool = False) -> None:
        """Wait until all that was begun has come, and do here what is to be done with it before somebody asks.

        `read`: only where something of it is read; what goes straight is queued already.
        """
        underway = self._underway
        if underway is not None and (underway.reads or not read):
            underway.complete()

    def may_land(self, device: torch.device) -> bool:
        """Whether `claim` may say yes; waits for nothing."""
        return not self._over and device == self.device

    def claim(self, device: torch.device) -> bool:
        """Whether they are on their way to this device: then `landed` is to be asked. Else they go."""
        self._patience.over = True
        with self._lock:
            here = self._underway is not None and not self._over and device == self.device
            self._over = True
        if not here:
            self.stop()
        return here

    def landed(self, going: Iterable[Departure]) -> dict[int, Landed]:
        """By id of its tensor, what has come of all that goes now; waits for it, and lets the rest go. Once."""
        underway, self._underway = self._underway, None
        signature, self._signature, self.bytes = self._signature, None, 0
        if underway is None or signature is None:
            return {}
        there: dict[object, list[int]] = defaultdict(list)
        for number, item in enumerate(self._items):
            there[_bytes_of(item)].append(number)
        wanted = [(each, _bytes_of(each.item)) for each in going if each.recipe is None]
        try:
            tensors = underway.result()
        except TransferError as error:
            _log.info("what was on its way ahead of its load did not come (%s)", str(error))
            return {}
        signature.join()
        self.came = self.size
        found: dict[int, Landed] = {}
        for now, own in wanted:
            numbers = there.get(own)
            if numbers:
                number = numbers.pop()
                data = tensors[number]
                found[id(now.tensor)] = data, now.landed(data, signature, number)
                self.used += data.nbytes
        return found

    def stop(self) -> None:
        """Nobody wants it: no copy is under way any more, and its memory is free."""
        self._patience.wanted = False  # before the lock, which whoever begins holds
        with self._lock:
            self._over = True
            underway, self._underway, self._signature = self._underway, None, None
        if underway is not None:
            underway.stop()
        self.bytes = 0


def nothing_placed(device: torch.device, error: Exception) -> TransferError:
    """An error of a load that left everything as it was; holds no device memory."""
    let_go(error)
    return TransferError(None, f"nothing was placed on {device} ({error})")


def items_of(going: Iterable[Departure]) -> list[Item]:
    """Those that can come early."""
    return [each.item for each in going if isinstance(each.item.origin, Span) and each.recipe is None]


def in_turn(parts: Iterable[Early], *, soon: bool = False) -> None:
    """The first begins now, while the others are made, each of which begins once the one before it is queued, or
    was read.

    `soon`: the first begins on the thread of the others, too; whoever asks for it before that brings it himself.
    Raises what `Early.begin` raises, of what begins now, and what making them raises.
    """
    listed: list[Early] = []
    for each in parts:
        if not listed and not soon:
            each.begin()
        listed.append(each)
    if listed:
        follow = partial(_follow, listed, 0 if soon else 1)
        try:
            threading.Thread(target=follow, name="flux-speedup-in-turn", daemon=True).start()
        except RuntimeError as error:  # no more threads here: their loads do what is left
            _log.info("nothing more comes ahead of its load (%s)", error)


def _follow(parts: Sequence[Early], begun: int) -> None:
    try:
        with handed_over_often():
            for number, each in enumerate(parts):
                if number >= begun:
                    each.begin(patient=True)
                each.complete(read=True)
        for each in parts:
            each.complete()
    except Stopped:
        return
    except Exception as error:  # a courtesy in the background: their load brings them
        _log.info("nothing more comes ahead of its load (%s)", str(error).split("\n")[0])


def _bytes_of(item: Item) -> object:
    """What two items have alike that bring the same bytes of the same file, as the same kind of tensor."""
    key = item.key
    return id(item) if key is None else (key, item.dtype, item.shape, item.inference)
