"""A device whose three streams are queues: what was queued happens later, in any order that the marks allow."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch

from flux_speedup.weights.streaming.supply import Arrival, Load, Straight, Supply
from flux_speedup.weights.streaming.timeline import CudaTimeline


class Point:
    """A mark: reached once everything before it in its queue has happened."""

    def __init__(self, device: Device) -> None:
        self.reached = False
        self._device = device

    def query(self) -> bool:
        return self.reached

    def synchronize(self) -> None:
        while not self.reached:
            self._device.let_time_pass()


class Stream:
    """Stands for a CUDA stream."""

    def __init__(self, device: Device) -> None:
        self.queue: deque[tuple[str, Any]] = deque()
        self._device = device

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return other is not None and self is not other  # as PyTorch's own

    __hash__ = None  # type: ignore[assignment]

    def wait_event(self, mark: Point) -> None:
        self.queue.append(("wait", mark))

    def wait_stream(self, other: Stream) -> None:
        self.wait_event(other.record_event())

    def record_event(self) -> Point:
        point = Point(self._device)
        self.queue.append(("mark", point))
        return point

    def synchronize(self) -> None:
        self.record_event().synchronize()

    @property
    def idle(self) -> bool:
        return not any(kind == "do" for kind, _ in self.queue)


class Device(CudaTimeline):
    """A timeline, what it takes for torch.cuda, and a supply. `compute`: what a kernel is launched with."""

    name = "simulated"

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._stepping = threading.RLock()
        self._current = threading.local()
        self.streams: list[Stream] = []
        self._computing = self.Stream(torch.device("cpu"))
        super().__init__(torch.device("cuda", 0), module=self)
        self.through: Supply = Straight(self, self.name)
        self.fail_copies = False
        self.room = 1 << 40  # bytes that are left; what was had once does not come back

    def memory(self, size: int) -> torch.Tensor:
        self.room -= size
        if self.room < 0:
            self.room += size
            raise torch.OutOfMemoryError("no room")
        return torch.zeros(size, dtype=torch.uint8)

    def back(self, target: torch.Tensor, source: torch.Tensor) -> None:
        self.compute(lambda: target.copy_(source))

    # As torch.cuda.

    def Stream(self, device: torch.device, priority: int = 0) -> Stream:
        self.streams.append(Stream(self))
        return self.streams[-1]

    def current_stream(self, device: torch.device) -> Stream:
        return getattr(self._current, "stream", self._computing)

    @contextlib.contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before = self.current_stream(self.device)
        self._current.stream = stream
        try:
            yield
        finally:
            self._current.stream = before

    # The supply.

    def bring(self, load: Load, after: Sequence[Point]) -> Arrival:
        if self.fail_copies:
            raise RuntimeError("no copy today")
        copies: Any = [(Memory(self, target), source) for target, source in load.copies]
        casts: Any = [(Memory(self, target), source) for target, source in load.casts]
        made = [partial(self.do, make) for make in load.made]
        return self.through.bring(Load(copies, casts, made), after)

    def go(self) -> None:
        self.through.go()

    def rest(self) -> None:
        self.through.rest()

    def close(self) -> None:
        self.through.close()

    # Time.

    def compute(self, what: Callable[[], object]) -> None:
        self.do(what)

    def do(self, what: Callable[[], object]) -> None:
        """On the current stream."""
        self.current_stream(self.device).queue.append(("do", what))

    def let_time_pass(self) -> None:
        """One stream after the other gets some way ahead of the others."""
        for _ in range(self._random.randrange(4)):
            queue = self._random.choice(self.streams).queue
            for _ in range(self._random.randrange(9)):
                with self._stepping:  # whoever waits on another thread lets time pass, too
                    self._next(queue)

    def run_all(self) -> None:
        while True:
            with self._stepping:
                if not any(stream.queue for stream in self.streams):
                    return
                shuffled = self._random.sample(self.streams, len(self.streams))
                moved = [self._next(stream.queue) for stream in shuffled]
                assert any(moved), "each stream waits for another"

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
        self.device.do(lambda: self.data.copy_(data))


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

    def replace(self, seed: int, size: int | None = None) -> None:
        """As an extension does it: another parameter, of the same shape unless told."""
        generator = torch.Generator().manual_seed(seed)
        new = torch.randn(size or len(self.weight), generator=generator)
        self.weight = torch.nn.Parameter(new, requires_grad=False)
        self.truth[0] = new.clone()
