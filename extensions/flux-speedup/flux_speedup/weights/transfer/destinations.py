"""The new device tensors of a run: allocated in batches by one thread, waited for by the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch

from .item import Item
from .lane import Lane

_BATCH = 512 << 20  # bytes allocated before copies into them may start


class Stopped(Exception):
    """Another thread failed; this one ends."""


class Destinations:
    """One tensor an item. `allocate` runs on the caller's thread, `pieces` on readers, `stop` anywhere."""

    def __init__(self, items: Sequence[Item], lane: Lane, cuts: Mapping[int, Sequence[int]]) -> None:
        """`cuts`: by item, the bytes of the pieces it comes in, one after the other.

        Readers share the interpreter's lock, and every operation on a tensor lets go of it: so tensors are cut
        here, each in one operation, and not by them.
        """
        self._items = items
        self._lane = lane
        self._cuts = cuts
        self._changed = threading.Condition()
        self._pieces: list[Sequence[torch.Tensor] | None] = [None] * len(items)
        self.tensors: list[torch.Tensor | None] = [None] * len(items)
        self.stopped = False

    def allocate(
        self, order: Iterable[int], published: Callable[[Sequence[int]], None] = lambda _: None
    ) -> None:
        """Every tensor, in this order, published in batches so that copies start early; ends if stopped.

        `published` is told of each batch.
        """
        batch: list[int] = []
        size = 0
        for dest in order:
            if self.stopped:
                return
            batch.append(dest)
            size += self._items[dest].bytes
            if size >= _BATCH:
                self._make(batch, published)
                batch, size = [], 0
        self._make(batch, published)

    def pieces(self, dest: int) -> Sequence[torch.Tensor]:
        """The bytes of the tensor's pieces, once copies into it may be queued. Raises Stopped."""
        pieces = self._pieces[dest]
        if pieces is None:
            with self._changed:
                self._changed.wait_for(lambda: self.stopped or self._pieces[dest] is not None)
                pieces = self._pieces[dest] if not self.stopped else None
        if pieces is None:
            raise Stopped
        return pieces

    def stop(self) -> None:
        """Whoever waits, and whoever allocates, ends."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()

    def drop(self) -> None:
        """Let every tensor go that was not handed out."""
        self.tensors.clear()
        self._pieces.clear()

    def _make(self, batch: list[int], published: Callable[[Sequence[int]], None]) -> None:
        for inference in (False, True):
            with torch.inference_mode(inference):
                for dest in batch:
                    if self._items[dest].inference is inference:
                        self.tensors[dest] = self._one(self._items[dest])
        self._publish(batch)
        published(batch)

    def _one(self, item: Item) -> torch.Tensor:
        tensor = self._lane.empty(item.shape, item.dtype)
        if isinstance(item.origin, torch.Tensor) and not item.staged:
            if not item.origin.is_contiguous():
                tensor = tensor.as_strided(item.shape, _dense_strides(item.origin))
            with torch.inference_mode():
                tensor.copy_(item.origin)
        return tensor

    def _publish(self, batch: list[int]) -> None:
        self._lane.publish()
        with self._changed:
            for dest in batch:
                tensor, cuts = self.tensors[dest], self._cuts.get(dest)
                if tensor is not None and cuts:
                    flat = tensor.reshape(-1).view(torch.uint8)
                    if self._items[dest].packed is not None:  # at the end: it is decoded in place
                        flat = flat[flat.numel() - sum(cuts) :]
                    self._pieces[dest] = flat.split_with_sizes(cuts) if len(cuts) > 1 else (flat,)
            self._changed.notify_all()


def _dense_strides(tensor: torch.Tensor) -> tuple[int, ...]:
    """Strides of a dense tensor with the given one's order of dimensions (channels last stays so)."""
    return tuple(torch.empty_like(tensor, device="meta").stride())
