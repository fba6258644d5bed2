"""Slots are filled again only after their copies, and no more of them are used than the device needs."""

from __future__ import annotations

from flux_speedup.weights.transfer.ring import Ring
from flux_speedup.weights.transfer.staging import Arena


class Fence:
    def __init__(self) -> None:
        self.done = False
        self.waited = 0

    def synchronize(self) -> None:
        self.waited += 1
        self.done = True

    def query(self) -> bool:
        return self.done


def test_without_fences_one_slot_is_enough() -> None:
    with Arena(limit=4 << 10, chunk=1 << 10).slots(pinned=False) as slots:
        ring = Ring(slots)
        seen = set()
        for _ in range(10):
            slot, fence = ring.free()
            assert fence is None
            seen.add(id(slot))
            ring.used(slot, None)
    assert len(seen) == 1


def test_a_slot_whose_copies_are_done_comes_before_a_fresh_one() -> None:
    with Arena(limit=4 << 10, chunk=1 << 10).slots(pinned=False) as slots:
        ring = Ring(slots)
        first, _ = ring.free()
        busy = Fence()
        ring.used(first, busy)
        second, _ = ring.free()
        assert second is not first
        ring.used(second, Fence())
        busy.done = True
        assert ring.free() == (first, busy)


def test_where_all_are_busy_the_oldest_is_waited_for() -> None:
    with Arena(limit=3 << 10, chunk=1 << 10).slots(pinned=False) as slots:
        ring = Ring(slots)
        fences = [Fence(), Fence(), Fence()]
        order = []
        for fence in fences:
            slot, none = ring.free()
            assert none is None
            order.append(slot)
            ring.used(slot, fence)
        assert ring.free() == (order[0], fences[0])
        assert [fence.waited for fence in fences] == [1, 0, 0]
