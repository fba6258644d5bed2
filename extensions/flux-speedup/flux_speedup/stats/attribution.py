"""Where the seconds of one request go: a stack of open stages in which each second counts once. Pure.

Every time is handed in, in seconds of one clock that never goes back. A stage counts what is left of it once
the stages and the events inside it have counted theirs, so that all parts together are the whole request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .requests import PARTS, Pass, Steps

DETECTOR = "adetailer"
# In a pass of a detector these are what the detector costs; loading is loading wherever it happens.
_COMPUTING = ("text encoding", "sampling", "vae", "other")


@dataclass(eq=False)
class _Pass:
    name: str
    detail: bool
    parts: dict[str, float] = field(default_factory=dict)
    # Read when they are asked for: the device is behind.
    samplings: list[Callable[[], Steps | None]] = field(default_factory=list)

    def add(self, part: str, seconds: float) -> None:
        self.parts[part] = self.parts.get(part, 0.0) + seconds


@dataclass(eq=False)
class _Stage:
    part: str
    began: float
    belongs: _Pass
    # What has been counted inside, as (began, ended) without overlaps, in the order of time.
    inside: list[tuple[float, float]] = field(default_factory=list)

    def own(self, at: float) -> float:
        return max(0.0, at - self.began - sum(end - start for start, end in self.inside))


@dataclass(frozen=True)
class Sums:
    """Seconds by part, all of them together in `seconds`, and the same by pass."""

    parts: Mapping[str, float]
    seconds: float
    passes: tuple[Pass, ...]


class Account:
    """The stages of one request, from the outermost to the innermost that is open."""

    def __init__(self, at: float) -> None:
        outside = _Pass("", False)
        self._passes = [outside]
        self._stack = [_Stage("other", at, outside)]

    def open(self, at: float, part: str, pass_name: str | None = None) -> int:
        """Open a stage, which is a pass of its own where it has a name. Answers what `close` wants."""
        belongs = self._stack[-1].belongs
        if pass_name is not None:
            belongs = _Pass(pass_name, self.in_detector())
            self._passes.append(belongs)
        self._stack.append(_Stage(part, at, belongs))
        return len(self._stack) - 1

    def close(self, at: float, opened: int) -> None:
        """Close the stage that was `opened`, and whatever was left open inside it."""
        while len(self._stack) > max(1, opened):
            stage = self._stack.pop()
            stage.belongs.add(stage.part, stage.own(at))
            self._stack[-1].inside.append((stage.began, at))

    def charge(self, at: float, seconds: float, part: str) -> None:
        """What ended right now and took `seconds` counts as `part`, but for what has counted inside it."""
        stage = self._stack[-1]
        start = max(stage.began, at - max(0.0, seconds))
        before: list[tuple[float, float]] = []
        counted = 0.0
        for began, ended in stage.inside:
            counted += max(0.0, ended - max(began, start))
            if began < start:
                before.append((began, min(ended, start)))
        stage.belongs.add(part, max(0.0, at - start - counted))
        stage.inside = [*before, (start, at)]

    def sampled(self, read: Callable[[], Steps | None]) -> None:
        """A sampler has begun; `read`: its iterations so far."""
        self._stack[-1].belongs.samplings.append(read)

    def in_detector(self) -> bool:
        """Whether a detector is at work, or a pass that it began."""
        return any(stage.part == DETECTOR or stage.belongs.detail for stage in self._stack)

    def detector_passes(self) -> int:
        """How many passes detectors have begun."""
        return sum(each.detail for each in self._passes)

    def sums(self, at: float) -> Sums:
        """All seconds so far, those of stages that are still open too."""
        parts_of = [dict(each.parts) for each in self._passes]
        nested = 0.0
        for stage in reversed(self._stack):
            mine = parts_of[self._passes.index(stage.belongs)]
            mine[stage.part] = mine.get(stage.part, 0.0) + max(0.0, stage.own(at) - nested)
            nested = at - stage.began
        passes = tuple(
            _pass(each, parts) for each, parts in zip(self._passes, parts_of, strict=True) if each.name
        )
        whole: dict[str, float] = {}
        for each, parts in zip(self._passes, parts_of, strict=True):
            for part, seconds in parts.items():
                shown = DETECTOR if each.detail and part in _COMPUTING else part
                whole[shown] = whole.get(shown, 0.0) + seconds
        ordered = _ordered(whole)
        return Sums(ordered, sum(ordered.values()), passes)


def _pass(of: _Pass, parts: Mapping[str, float]) -> Pass:
    ordered = _ordered(parts)
    steps = Steps.together([found for read in of.samplings if (found := read()) is not None])
    return Pass(of.name, sum(ordered.values()), ordered, steps)


def _ordered(parts: Mapping[str, float]) -> dict[str, float]:
    return {part: parts[part] for part in PARTS if parts.get(part)}
