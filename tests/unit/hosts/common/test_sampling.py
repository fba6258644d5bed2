"""Seconds an iteration: of every sampler, in the pass that it belongs to, with what of them waited for weights."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from flux_speedup.hosts.common.sampling import SAMPLERS, Run, Sampling
from flux_speedup.patching.change import apply_all
from flux_speedup.stats.requests import Request, Steps
from flux_speedup.stats.tracking import Tracking


class Device:
    """Marks that it reaches when it is told so, each a second after the other."""

    def __init__(self) -> None:
        self.reached = self.made = 0

    def stamp(self) -> int:
        self.made += 1
        return self.made

    def between(self, first: int, then: int) -> float | None:
        return float(then - first) if then <= self.reached else None


class Streamed:
    """`share` of its rounds wait for weights."""

    name, resident, coming, ring, held, source = "transformer", 10, 14, 2, 2, "registered file pages"

    def __init__(self, share: float | None = 0.25) -> None:
        self.brought = 1000
        self.share = share

    def waiting(self) -> Callable[[], float | None]:
        return lambda: self.share


def test_an_iteration_is_told_once_the_device_has_reached_it_and_the_first_is_warming_up() -> None:
    device, streamed = Device(), Streamed()
    run = Run([streamed], (device.stamp, device.between))
    assert run.steps() is None
    run.step()
    device.reached = device.made
    assert run.steps() == Steps(1, 1.0, None, 0)
    for _ in range(3):
        run.step()
        streamed.brought += 40
    assert run.steps() is None
    device.reached = device.made
    assert run.steps() == Steps(4, 1.0, 0.25, 30)
    run.end()
    streamed.brought += 1000
    assert run.steps() == Steps(4, 1.0, 0.25, 30)


@pytest.mark.parametrize("streams", [[], [Streamed(None)]])
def test_what_is_not_known_is_not_said_to_be_nothing(streams: list[Streamed]) -> None:
    device = Device()
    run = Run(streams, (device.stamp, device.between))
    run.step()
    for each in streams:
        each.brought += 5
    run.end()
    device.reached = device.made
    assert run.steps() == Steps(1, 1.0, None, 5 * len(streams))


def test_several_samplings_of_a_pass_are_one_figure_by_their_counts() -> None:
    assert Steps.together([]) is None
    together = Steps.together([Steps(3, 1.0, 0.2, 100), Steps(1, 5.0, 1.0, 500)])
    assert together == Steps(4, 2.0, pytest.approx(0.4), 200)
    assert Steps.together([Steps(1, 1.0, 0.5), Steps(1, 1.0)]) == Steps(2, 1.0, None, 0)


def test_each_sampler_counts_in_its_own_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    host: Any = ModuleType(SAMPLERS)

    class Sampler:
        def callback_state(self, d: dict[str, int]) -> int:
            return d["i"]

        def launch_sampling(self, steps: int, func: Callable[[Any], str]) -> str:
            return func(self.callback_state)

    Sampler.__module__ = SAMPLERS
    host.Sampler = Sampler
    monkeypatch.setitem(sys.modules, SAMPLERS, host)
    ended: list[Request] = []
    tracking = Tracking(lambda request, _: ended.append(request))
    undo = apply_all(Sampling(tracking, tuple).changes())

    def sampled(steps: int) -> None:
        def func(callback: Callable[[dict[str, int]], int]) -> str:
            assert [callback({"i": i}) for i in range(steps)] == list(range(steps))
            return "latent"

        assert Sampler().launch_sampling(steps, func) == "latent"

    sampled(2)  # outside of a request it counts nowhere
    with tracking.request("txt2img", "API"), tracking.run("txt2img", object()):
        sampled(5)
        with tracking.run("hires", object()):
            sampled(3)
    undo()
    sampled(2)
    (request,) = ended
    assert [each.steps and each.steps.count for each in request.passes] == [5, 3]
    assert all(each.steps is not None and each.steps.seconds >= 0 for each in request.passes)
