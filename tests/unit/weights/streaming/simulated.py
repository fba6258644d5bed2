"""A device whose two streams are queues: what was queued happens later, in any order that the marks allow."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from flux_speedup.weights.streaming.supply import Arrival, Load


class Point:
    """A mark: reached once everything before it in its queue has happened."""

    reached = False


class Device:
    """Both a timeline and a supply. `compute` is what a kernel is launched with."""

    pinned = True
    name = "simulated"

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._copies: deque[tuple[str, Any]] = deque()
        self._computing: deque[tuple[str, Any]] = deque()
        self._stepping = threading.RLock()
        self.fail_copies = False
        self.room = 1 << 40  # bytes that are left; what was had once does not come back

    # The timeline.

    def memory(self, size: int) -> torch.Tensor:
        self.room -= size
        if self.room < 0:
            self.room += size
            raise torch.OutOfMemoryError("no room")
        return torch.zeros(size, dtype=torch.uint8)

    def copying(self, after: Sequence[Any]) -> AbstractContextManager[object]:
        self._copies.extend(("wait", mark) for mark in after)
        return contextlib.nullcontext()

    def copied(self) -> Point:
        return self._mark(self._copies)

    def computing_waits(self, mark: Point) -> None:
        self._computing.append(("wait", mark))

    def computed(self) -> Point:
        return self._mark(self._computing)

    def back(self, target: torch.Tensor, source: torch.Tensor) -> None:
        self.compute(lambda: target.copy_(source))

    def wait(self, mark: Point | None) -> None:
        while mark is not None and not mark.reached:
            self.let_time_pass()

    def reached(self, mark: Point | None) -> bool:
        return mark is None or mark.reached

    def drain(self) -> None:
        self.run_all()

    # The supply.

    def bring(self, load: Load, after: Sequence[Point]) -> Arrival:
        if self.fail_copies:
            raise RuntimeError("no copy today")
        self.copying(after)
        for target, source in (*load.copies, *load.casts):
            self._copies.append(("do", lambda target=target, source=source: target.copy_(source)))
        mark = self.copied()
        return lambda: mark

    def rest(self) -> None:
        return

    def close(self) -> None:
        self.run_all()

    # Time.

    def compute(self, what: Callable[[], object]) -> None:
        self._computing.append(("do", what))

    def copy(self, what: Callable[[], object]) -> None:
        self._copies.append(("do", what))

    def let_time_pass(self) -> None:
        for _ in range(self._random.randrange(12)):
            self._step(self._random.choice((self._copies, self._computing)))

    def run_all(self) -> None:
        while True:
            with self._stepping:  # whoever waits on another thread lets time pass, too
                if not (self._copies or self._computing):
                    return
                moved = [self._next(queue) for queue in self._shuffled()]
                assert any(moved), "each stream waits for the other"

    def _shuffled(self) -> Iterator[deque[tuple[str, Any]]]:
        queues = [self._copies, self._computing]
        self._random.shuffle(queues)
        yield from queues

    def _step(self, queue: deque[tuple[str, Any]]) -> bool:
        with self._stepping:
            return self._next(queue)

    def _next(self, queue: deque[tuple[str, Any]]) -> bool:
        if not queue:
            return False
        kind, what = queue[0]
        if kind == "wait" and not what.reached:
            return False
        queue.popleft()
        if kind == "mark":
            what.reached = True
        elif kind == "do":
            what()
        return True

    def _mark(self, queue: deque[tuple[str, Any]]) -> Point:
        point = Point()
        queue.append(("mark", point))
        return point


class Memory:
    """Bytes of the device as a supply sees them: what is copied into it is read once the copy happens."""

    def __init__(self, device: Device, data: torch.Tensor) -> None:
        self.device = device
        self.data = data

    def numel(self) -> int:
        return self.data.numel()

    def __getitem__(self, part: slice) -> Memory:
        return Memory(self.device, self.data[part])

    def copy_(self, source: torch.Tensor | Memory, *, non_blocking: bool = False) -> None:
        data = source.data
        self.device.copy(lambda: self.data.copy_(data))


class Leaf(torch.nn.Module):
    """A module with two weights, whose kernel looks at them when it runs and not when it is launched."""

    def __init__(self, device: Device, size: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.nn.Parameter(torch.randn(size, generator=generator), requires_grad=False)
        self.bias = torch.nn.Parameter(torch.randn(3, generator=generator).half(), requires_grad=False)
        self.truth = [self.weight.detach().clone(), self.bias.detach().clone()]
        self._device = device
        self.fails = False
        self.seen = 0
        self.wrong = 0

    def forward(self) -> None:
        views = [self.weight.data, self.bias.data]
        truth = list(self.truth)
        self._device.compute(lambda: self._look(views, truth))
        if self.fails:
            raise RuntimeError("interrupted")

    def _look(self, views: list[torch.Tensor], truth: list[torch.Tensor]) -> None:
        self.seen += 1
        self.wrong += not all(torch.equal(view, true) for view, true in zip(views, truth, strict=True))

    def replace(self, seed: int) -> None:
        """As an extension does it: another parameter, of the same shape."""
        generator = torch.Generator().manual_seed(seed)
        new = torch.randn(self.weight.shape, generator=generator)
        self.weight = torch.nn.Parameter(new, requires_grad=False)
        self.truth[0] = new.clone()
