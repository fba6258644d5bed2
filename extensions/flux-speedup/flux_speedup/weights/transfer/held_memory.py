"""Weights in RAM that the device reads where they are: their own memory, registered.

Nothing of a weight changes by that: not its object, and not its address. It is registered in one piece, and only
where it is all one weight's, as no copy may cross from one registration into the next, whoever makes it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch

from ...ram import HELD, PLENTY, Held, Hold
from ...stats.report import size
from ..files.ordinary import ordinary_among
from ..files.written import Ranges
from .item import Item
from .lending import Reach, Straight
from .registration import CUDA_WRITABLE, PIECE, Registered, Registrar

LEAST = 1 << 20
"""Bytes of what is registered by itself: what is smaller shares a staging slot with others."""
_log = logging.getLogger("flux_speedup")


@dataclass(eq=False)
class _Own:
    """A weight's memory, all of it in `data`, which holds it: so its address is not given out anew while it is
    registered, whoever has let the weight go by then."""

    data: torch.Tensor
    memory: Registered
    hold: Hold
    users: int = 0

    @property
    def moved(self) -> bool:
        """Whether somebody has put the weight's bytes elsewhere, and let this memory go (as to share it)."""
        return self.data.data_ptr() != self.memory.address

    def cut(self, start: int, length: int) -> tuple[torch.Tensor, ...]:
        return (self.data[start : start + length],)


class HeldMemory:
    """Registered memory of weights, by address. Safe from any thread.

    It gains little, and so gives way: to whoever has no room but for it, and for good once RAM is short.
    """

    def __init__(
        self,
        *,
        registrar: Registrar = CUDA_WRITABLE,
        held: Held = HELD,
        least: int = LEAST,
        ordinary: Callable[[Ranges], Ranges] = ordinary_among,
    ) -> None:
        """`least`: bytes of what is worth it. `ordinary`: which address ranges are this process's alone."""
        self._registrar = registrar
        self._ledger = held
        self._least = least
        self._ordinary = ordinary
        self._off = False
        self._changing = threading.Lock()  # one registration at a time
        self._lock = threading.Lock()  # users, and who is in the table; nothing slow in here
        self._own: dict[int, _Own] = {}

    @property
    def bytes(self) -> int:
        """Bytes that are registered now."""
        return sum(own.memory.registered for own in list(self._own.values()))

    def hold(self, homes: Iterable[torch.Tensor], wanted: Callable[[], bool] = lambda: True) -> bool:
        """Register what can be of this memory, about as much as a file's piece at a time; whether nothing is left
        to do. What cannot be stays as it is.

        `wanted`: whether nothing was released since it was asked for.
        """
        with self._changing:
            left = PIECE if wanted() and self._is_of_use() else 0
            found = self._registrable(homes) if left else []
            while found and left > 0 and not self._off:
                left -= self._register(found.pop(0))
            return not found or self._off

    @contextlib.contextmanager
    def lend(self, items: Sequence[Item], first: int = 0) -> Iterator[Straight]:
        """What of a load can go straight: what is held. None of that is released.

        `first`: the number of the first of these items.
        """
        straight, taken = Straight(), list[_Own]()
        try:
            with self._lock:
                for number, item in enumerate(items, first) if self._own else ():
                    home = item.origin
                    if isinstance(home, torch.Tensor) and (own := self._of(home)) is not None:
                        own.users += 1
                        taken.append(own)
                        start = home.data_ptr() - own.memory.address
                        straight[number] = own.cut, Reach(start, home.nbytes)
            yield straight
        finally:
            straight.clear()
            with self._lock:
                for own in taken:
                    own.users -= 1
            taken.clear()

    def let_ended_go(self) -> None:
        """Memory that no weight uses any more."""
        for address, own in list(self._own.items()):
            if own.moved or _users(own.data) <= (self._alone or 0):
                self._let_go(address)

    def relieve(self, *, quiet: bool) -> bool:
        """Let go, while RAM is short, of all that no load uses, and of what has ended while it is `quiet`; whether
        to look again."""
        if self._own and self._ledger.is_short():
            self._off = True
            _log.info("RAM is short: %s of weights are not held any longer", size(self.bytes))
            for address in list(self._own):
                self._let_go(address)
        elif quiet:
            self.let_ended_go()
        return bool(self._own)

    def release_all(self) -> None:
        """Nothing is registered any more; what a load uses right now, once it ends."""
        with self._changing, self._lock:
            gone, self._own = self._own, {}
        gone.clear()  # with the last who holds it each is released

    @cached_property
    def _alone(self) -> int | None:
        """Users of memory that nobody but this has; None where PyTorch does not tell."""
        if not hasattr(torch._C, "_storage_Use_Count"):
            return None
        nobodys = self._made(torch.zeros(1), self._ledger.note(0))
        users = _users(nobodys.data)
        nobodys.memory.release()
        return users

    def _is_of_use(self) -> bool:
        return not self._off and self._alone is not None and not self._ledger.is_short()

    def _of(self, home: torch.Tensor) -> _Own | None:
        own = self._own.get(home.untyped_storage().data_ptr()) if home.is_contiguous() else None
        return None if own is None or own.moved else own

    def _registrable(self, homes: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        """Those whose memory is not registered yet, and can be."""
        wanted = {home.data_ptr(): home for home in homes if self._is_worth_it(home)}
        ranges = [(address, address + home.nbytes) for address, home in wanted.items()]
        return [wanted[start] for start, _ in self._ordinary(ranges)] if ranges else []

    def _is_worth_it(self, home: torch.Tensor) -> bool:
        storage = home.untyped_storage()
        return (
            home.nbytes >= self._least
            and home.nbytes == storage.nbytes()
            and home.is_contiguous()
            and storage.data_ptr() not in self._own
            and not home.is_pinned()
        )

    def _register(self, home: torch.Tensor) -> int:
        """So many bytes are registered now."""
        hold = self._ledger.take(home.nbytes, PLENTY)
        if hold is None:
            return 0
        try:
            own = self._made(home, hold)
            own.memory.register()
        except Exception as error:  # only a faster way: whatever it is, loads go on without it
            self._off = True
            _log.info("weights in RAM are not read directly (%s); going on through staging", error)
            return 0
        hold.gives_way = partial(self._let_go, own.memory.address)  # not of itself: that would keep it alive
        with self._lock:
            self._own[own.memory.address] = own
        return home.nbytes

    def _made(self, home: torch.Tensor, hold: Hold) -> _Own:
        try:
            data = home.reshape(-1).view(torch.uint8)
            array: Any = data.numpy()
        except BaseException:
            hold.release()
            raise
        in_one_piece = replace(self._registrar, piece=home.nbytes)
        return _Own(data, Registered(array, in_one_piece, lambda _: hold.release()), hold)

    def _let_go(self, address: int) -> None:
        """Where a load uses it, it stays."""
        with self._lock:
            own = self._own.get(address)
            own = None if own is None or own.users else self._own.pop(address)
        if own is not None:
            own.memory.release()


def _users(data: torch.Tensor) -> int:
    count: Any = getattr(torch._C, "_storage_Use_Count", None)
    return 0 if count is None else int(count(data.untyped_storage()._cdata))
