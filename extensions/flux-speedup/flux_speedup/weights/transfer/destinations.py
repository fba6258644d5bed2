"""The new device tensors of a run: allocated in batches, and cut into the pieces that they come in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch

from .item import Item
from .lane import Lane

_BATCH = 256 << 20  # bytes allocated before copies into them start


class Destinations:
    """One tensor an item. `allocate` on the caller's thread; then `pieces` on any."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._items: list[Item] = []
        self._pieces: dict[int, Sequence[torch.Tensor]] = {}
        self.tensors: list[torch.Tensor | None] = []

    def add(self, items: Sequence[Item]) -> None:
        """Those that have the next numbers."""
        self._items += items
        self.tensors += [None] * len(items)

    def allocate(
        self,
        order: Iterable[int],
        cuts: Mapping[int, Sequence[int]],
        published: Callable[[Sequence[int]], None] = lambda _: None,
    ) -> None:
        """Tensors, in this order; `published` is told of each batch: copies into it may be queued.

        `cuts`: of those that readers copy into, the bytes of the pieces they come in, one after the other. Readers
        share the interpreter's lock, and every operation on a tensor lets go of it: so tensors are cut here, each
        in one operation, and not by them.
        """
        batch: list[int] = []
        size = 0
        for dest in order:
            batch.append(dest)
            size += self._items[dest].bytes
            if size >= _BATCH:
                self._make(batch, cuts, published)
                batch, size = [], 0
        if batch:
            self._make(batch, cuts, published)

    def pieces(self, dest: int) -> Sequence[torch.Tensor]:
        """The bytes of the tensor's pieces."""
        return self._pieces[dest]

    def cut(self, dest: int, sizes: Sequence[int]) -> Sequence[torch.Tensor]:
        """A tensor's bytes as pieces of these sizes; of one that comes packed the end, where it is decoded."""
        tensor = self.tensors[dest]
        assert tensor is not None
        flat = tensor.reshape(-1).view(torch.uint8)
        if self._items[dest].packed is not None:
            flat = flat[flat.numel() - sum(sizes) :]
        return flat.split_with_sizes(sizes) if len(sizes) > 1 else (flat,)

    def drop(self) -> None:
        """Let every tensor go that was not handed out."""
        self.tensors.clear()
        self._pieces.clear()

    def _make(
        self,
        batch: list[int],
        cuts: Mapping[int, Sequence[int]],
        published: Callable[[Sequence[int]], None],
    ) -> None:
        for inference in (False, True):
            with torch.inference_mode(inference):
                for dest in batch:
                    if self._items[dest].inference is inference:
                        self.tensors[dest] = self._one(self._items[dest])
        self._lane.publish()
        self._pieces |= {dest: self.cut(dest, cuts[dest]) for dest in batch if dest in cuts}
        published(batch)

    def _one(self, item: Item) -> torch.Tensor:
        tensor = self._lane.empty(item.shape, item.dtype)
        if isinstance(item.origin, torch.Tensor) and not item.origin.is_contiguous():
            tensor = tensor.as_strided(item.shape, _dense_strides(item.origin))
            with torch.inference_mode():
                tensor.copy_(item.origin)
        return tensor


def _dense_strides(tensor: torch.Tensor) -> tuple[int, ...]:
    """Strides of a dense tensor with the given one's order of dimensions (channels last stays so)."""
    return tuple(torch.empty_like(tensor, device="meta").stride())
