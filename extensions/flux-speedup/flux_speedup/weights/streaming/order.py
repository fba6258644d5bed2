"""The order in which units run: learnt from what really ran, and followed to know what comes next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

LATE = 16
"""A unit that ran this little before its turn was not repeated for a new round: it is only late."""


class Learner:
    """Listens to units as they run, and tells each round once it is over: until its first unit runs again."""

    def __init__(self, most: int) -> None:
        """`most`: calls after which something without a round is given up and begun anew."""
        self._most = most
        self._round: list[int] = []
        self._last: tuple[int, ...] = ()

    def note(self, number: int) -> tuple[int, ...] | None:
        """The round that this call has ended, where it is to be believed: new ones only if they came twice."""
        ended: tuple[int, ...] | None = None
        if self._round and number == self._round[0]:
            whole = tuple(self._round)
            ended = whole if not self._last or whole == self._last else None
            self._last = whole
            self._round.clear()
        elif len(self._round) >= self._most:
            self._round.clear()
        self._round.append(number)
        return ended

    def forget(self) -> None:
        """Other units run from now on."""
        self._round.clear()
        self._last = ()


def is_same_round(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether they are one order, wherever each of them begins."""
    one, other = list(one), list(other)
    if len(one) != len(other):
        return False
    starts = [at for at, number in enumerate(other) if number == one[0]] if one else []
    return one == other or any(other[at:] + other[:at] == one for at in starts)


class Cursor:
    """Where in the order computing is, and how far copies are ahead of it; at most one round."""

    def __init__(self, order: Sequence[int]) -> None:
        self.order = tuple(order)
        self._known = frozenset(order)
        self._now = 0  # the next to run, counted over all rounds
        self._ahead = 0  # the next to be brought
        self._skipped: dict[int, int] = {}  # with their positions, the oldest first

    @property
    def ahead(self) -> int:
        """How many calls copies are ahead of computing."""
        return self._ahead - self._now

    def upcoming(self) -> int | None:
        """The unit to bring next; None where a whole round is on its way or there is nothing."""
        if not self.order or self.ahead >= len(self.order):
            return None
        return self.order[self._ahead % len(self.order)]

    def brought(self) -> None:
        """`upcoming` is on its way."""
        self._skipped.pop(self._at(self._ahead), None)
        self._ahead += 1

    def ran(self, number: int) -> tuple[int, ...]:
        """Computing is at this unit; returns those that were on their way and whose turn is over for good.

        What was skipped may only be late: it counts as on its way until so many others have run that it is not.
        """
        if number not in self._known:
            return ()
        if not self._skipped and self._now < self._ahead and self._at(self._now) == number:
            self._now += 1
            return ()
        waiting = range(self._now, self._ahead)
        found = next((at for at in waiting if self._at(at) == number), None)
        if found is None and (self._skipped.pop(number, None) is not None or self._is_late(number)):
            return ()
        if found is None:
            start = self._ahead
            found = next(at for at in range(start, start + len(self.order)) if self._at(at) == number)
        self._skipped |= {self._at(at): at for at in waiting if at < found}
        self._skipped.pop(number, None)
        self._now = found + 1
        self._ahead = max(self._ahead, self._now)
        over = tuple(one for one, at in self._skipped.items() if self._now - at > LATE)
        self.give_up(over)
        return over

    def is_skipped(self, number: int) -> bool:
        """Whether it is on its way though units behind it have run."""
        return number in self._skipped

    def give_up(self, numbers: Iterable[int]) -> None:
        """These will not run any more in this round."""
        for number in numbers:
            self._skipped.pop(number, None)

    def restart(self, order: Iterable[int], after: int | None = None) -> None:
        """Follow another order, from behind unit `after` on; nothing of it is on its way."""
        self.order = tuple(order)
        self._known = frozenset(self.order)
        self._now = 0 if after is None or after not in self._known else self.order.index(after) + 1
        self._ahead = self._now
        self._skipped.clear()

    def drop(self, number: int) -> None:
        """This unit is not streamed any more; what is on its way for others still is."""
        if number not in self._known:
            return
        ahead = sum(self._at(at) != number for at in range(self._now, self._ahead))
        begun = self.order[: self._now % len(self.order)]
        self._now = sum(one != number for one in begun)
        self._ahead = self._now + ahead
        self.order = tuple(one for one in self.order if one != number)
        self._known -= {number}
        self._skipped = dict.fromkeys((one for one in self._skipped if one != number), self._now)

    def _is_late(self, number: int) -> bool:
        first = max(0, self._now - min(LATE, len(self.order) // 2))
        return any(self._at(at) == number for at in range(first, self._now))

    def _at(self, position: int) -> int:
        return self.order[position % len(self.order)]
