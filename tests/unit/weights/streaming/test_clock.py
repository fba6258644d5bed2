from __future__ import annotations

import copy

import torch

from flux_speedup.weights.streaming.clock import Clock
from flux_speedup.weights.streaming.timeline import PlainTimeline
from flux_speedup.weights.streaming.unit import Unit


class Ticking(PlainTimeline):
    """Each stamp is a second later; nothing is reached before `arrive`."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.now = 0.0
        self.reached = False

    def stamp(self) -> float:
        self.now += 1.0
        return self.now

    def seconds(self, first: float, then: float) -> float | None:
        return then - first if self.reached else None


def clocked() -> tuple[torch.nn.ModuleList, Clock, Ticking]:
    model = torch.nn.ModuleList([torch.nn.Linear(2, 2) for _ in range(3)])
    timeline = Ticking()
    return model, Clock({leaf: Unit(n, str(n)) for n, leaf in enumerate(model)}, timeline), timeline


def test_the_second_round_is_timed_in_the_order_in_which_it_ran() -> None:
    model, clock, timeline = clocked()
    for _ in range(3):
        for number in (1, 2, 0):
            model[number](torch.zeros(1, 2))
    assert clock.result() is None
    timeline.reached = True
    timed = clock.result()
    assert timed is not None
    assert timed.order == (1, 2, 0)
    # Three stamps a call: before, inside, after; the last unit has no next one.
    assert timed.seconds == {1: 2.0, 2: 2.0, 0: 1.0}
    assert (timed.whole, timed.waited) == (8.0, 3.0)
    assert not any(leaf._forward_hooks or leaf._forward_pre_hooks for leaf in model)


def test_a_round_that_was_broken_off_says_nothing() -> None:
    model, clock, timeline = clocked()
    timeline.reached = True
    for number in (0, 1, 2, 0):
        model[number](torch.zeros(1, 2))
    model[1].forward = lambda x: 1 / 0
    try:
        model[1](torch.zeros(1, 2))
    except ZeroDivisionError:
        model[0](torch.zeros(1, 2))
    assert clock.result() is None
    copy.deepcopy(model)[0](torch.zeros(1, 2))
    assert clock.result() is None
