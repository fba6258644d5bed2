"""How bytes get to one device: allocation, copies on a stream of their own, the order between streams."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

from ..errors import TransferError

_COPY_MANY: Callable[..., object] | None = getattr(torch, "_foreach_copy_", None)  # from PyTorch 2.1 on


class Fence(Protocol):
    """A point in the copies of a lane."""

    def synchronize(self) -> None:
        """Wait until every copy before this point is done."""
        ...

    def query(self) -> bool:
        """Whether every copy before this point is done."""
        ...


class Lane(Protocol):
    """One device, one transfer. Made on the caller's thread, and with its stream; `empty` and `publish` there, too.
    `copying`, `copy`, `fence`: there and on reader threads. The rest: there, or later on a thread in its place.
    """

    pinned: bool
    device: torch.device

    def beside(self) -> Lane:
        """Another lane to the same device and for the same caller, of whose copies none waits for one of this."""
        ...

    def calling(self) -> AbstractContextManager[object]:
        """What another thread is in while it does what is done on the caller's."""
        ...

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """New device memory, from the allocator of the caller's stream. Raises torch.OutOfMemoryError."""
        ...

    def publish(self) -> None:
        """From here on copies may go into everything allocated so far."""
        ...

    def copying(self) -> AbstractContextManager[object]:
        """What a reader thread does its copies in."""
        ...

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Copy bytes, or cast on the device, in the order of the calls of one thread."""
        ...

    def copy_all(self, targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> None:
        """`copy` of many: to the interpreter's other threads it is one operation."""
        ...

    def fence(self, again: Fence | None) -> Fence | None:
        """A point after this thread's copies so far (`again`: one of this thread's, to be used again)."""
        ...

    def behind(self, after: Fence | None = None) -> AbstractContextManager[object]:
        """Device work queued in here comes after every copy before that point, beside the copies that follow.

        `after`: one of this lane's `fence`; None: all copies so far.
        """
        ...

    def finish(self) -> None:
        """Everything copied may be used by the caller's stream. Raises what the copies raised."""
        ...

    def abort(self) -> None:
        """Wait until no copy touches any buffer any more."""
        ...


class PlainLane:
    """A device without streams of ours: the CPU (or a second CPU that stands for a card in tests)."""

    pinned = False

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def beside(self) -> Lane:
        return self

    def calling(self) -> AbstractContextManager[object]:
        return contextlib.nullcontext()

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=self.device)

    def publish(self) -> None:
        return

    def copying(self) -> AbstractContextManager[object]:
        return contextlib.nullcontext()

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        target.copy_(source)

    def copy_all(self, targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> None:
        for target, source in zip(targets, sources, strict=True):
            self.copy(target, source)

    def fence(self, again: Fence | None) -> Fence | None:
        return None

    def behind(self, after: Fence | None = None) -> AbstractContextManager[object]:
        return contextlib.nullcontext()

    def finish(self) -> None:
        return

    def abort(self) -> None:
        return


class StreamLane:
    """CUDA (ROCm too) or XPU: copies run on a copy stream, beside whatever the caller's stream does.

    The copy stream waits for the caller's stream after each batch of allocations: a block that the
    allocator hands out may still be read by work queued before it was freed. Blocks belong to the caller's
    stream, which waits for the copy stream in `finish`, so record_stream is not needed; it would also delay
    the reuse of every freed block until the allocator polls its event, and count the block as in use until
    then.
    """

    pinned = True
    _streams: dict[tuple[Any, torch.device, bool], Any] = {}  # noqa: RUF012 - two a device and process, and two beside

    def __init__(
        self, device: torch.device, *, blocking: bool = False, module: Any = None, beside: bool = False
    ) -> None:
        """`blocking`: who waits for a slot sleeps instead of spinning. `module`: torch.cuda or its like."""
        self._module: Any = module or (torch.cuda if device.type == "cuda" else torch.xpu)
        if device.index is None:
            device = torch.device(device.type, self._module.current_device())
        self.device = device
        self._blocking = blocking
        self._current = self._module.current_stream(device)
        key = (self._module, device, beside)
        if key not in self._streams:
            self._streams[key] = self._module.Stream(device), self._module.Stream(device)
        self._copies, self._behind = self._streams[key]

    def beside(self) -> Lane:
        return StreamLane(self.device, blocking=self._blocking, module=self._module, beside=True)

    def calling(self) -> AbstractContextManager[object]:
        stream: AbstractContextManager[object] = self._module.stream(self._current)
        return stream

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=self.device)

    def publish(self) -> None:
        self._copies.wait_stream(self._current)

    def copying(self) -> AbstractContextManager[object]:
        stream: AbstractContextManager[object] = self._module.stream(self._copies)
        return stream

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        target.copy_(source, non_blocking=True)

    def copy_all(self, targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> None:
        if _COPY_MANY is not None:
            _COPY_MANY(targets, sources, non_blocking=True)
        else:
            for target, source in zip(targets, sources, strict=True):
                self.copy(target, source)

    def fence(self, again: Fence | None) -> Fence | None:
        event: Any = again if again is not None else self._new_event()
        event.record(self._copies)
        fence: Fence = event
        return fence

    def behind(self, after: Fence | None = None) -> AbstractContextManager[object]:
        if after is None:
            self._behind.wait_stream(self._copies)
        else:
            self._behind.wait_event(after)
        stream: AbstractContextManager[object] = self._module.stream(self._behind)
        return stream

    def finish(self) -> None:
        # First: where the caller computes something else meanwhile, only what follows it waits.
        self._copies.synchronize()
        self._current.wait_stream(self._copies)
        self._current.wait_stream(self._behind)

    def abort(self) -> None:
        self._copies.synchronize()
        self._behind.synchronize()

    def _new_event(self) -> Any:
        return self._module.Event(blocking=True) if self._blocking else self._module.Event()


LANES: dict[str, Callable[[torch.device], Lane]] = {"cpu": PlainLane, "cuda": StreamLane, "xpu": StreamLane}
"""By kind of device that weights can be streamed to; a CPU that is not home stands for one."""


def is_plain(kind: str) -> bool:
    """Whether everything is over when it was called, on devices of this kind."""
    return LANES.get(kind) is PlainLane


def simulate(kind: str) -> None:
    """Devices of this kind are a host's stand-ins for cards, in RAM: they are as a second CPU is."""
    LANES.setdefault(kind, PlainLane)


def lane_for(device: torch.device) -> Lane:
    """The lane to a device. Raises TransferError for a kind of device that has none."""
    make = LANES.get(device.type)
    if make is None or (device.type == "xpu" and not hasattr(torch, "xpu")):
        raise TransferError(None, f"no way to stream to a {device.type} device")
    return make(device)
