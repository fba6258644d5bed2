"""What is remembered about one parameter or buffer between a load and an unload."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..files.span import Span
from .backing import Backing


@dataclass(eq=False)
class Entry:
    """One tensor object of a module, under all its names; tied parameters are one entry.

    At home, `host`, `device` and `checksum` are None. On the device `host` is the data it gets back,
    `device` the memory we gave it, `checksum` (0-dim, on the device) what was in there. `merged`: its owner
    has replaced the device data and can do so again. `cast`, `cast_view`: while its home is that view, in
    the file's dtype, it has the dtype `cast` on the device.
    """

    tensor: torch.Tensor
    names: tuple[str, ...]
    backing: Backing = Backing.NONE
    span: Span | None = None
    host: torch.Tensor | None = None
    device: torch.Tensor | None = None
    checksum: torch.Tensor | None = None
    merged: bool = False
    cast: torch.dtype | None = None
    cast_view: torch.Tensor | None = None

    @property
    def away(self) -> bool:
        """Whether its data is on a device by our doing."""
        return self.host is not None

    @property
    def in_place(self) -> bool:
        """Whether the tensor still shows exactly the memory we gave it."""
        return self.device is not None and same_memory(self.tensor, self.device)

    @property
    def cast_now(self) -> torch.dtype | None:
        """The dtype it has on the device, where its home is `cast_view`; None where it has the same at home."""
        home = self.tensor if self.host is None else self.host
        return self.cast if self.cast_view is not None and same_memory(home, self.cast_view) else None

    def set_merged(self) -> None:
        """Its owner has replaced the device data: ours, which nobody shows any longer, is let go."""
        self.merged = True
        self.device = self.checksum = None

    def come_home(self) -> None:
        """Forget the device's side."""
        self.host = self.device = self.checksum = None
        self.merged = False


def same_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are the same view of the same memory."""
    return (
        one.data_ptr() == other.data_ptr()
        and one.device == other.device
        and one.dtype == other.dtype
        and one.shape == other.shape
        and one.stride() == other.stride()
    )


def own_copy(tensor: torch.Tensor) -> torch.Tensor:
    """The same values in RAM that belongs to nobody else. Raises RuntimeError where there is none."""
    with torch.inference_mode(tensor.is_inference()), torch.no_grad():
        return torch.empty_like(tensor, device="cpu").copy_(tensor)


def set_data(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Give each tensor object its new data; all or none. Works under grad, no_grad and inference mode."""
    before: list[tuple[torch.Tensor, torch.Tensor]] = []
    try:
        for tensor, data in pairs:
            old = tensor.data
            tensor.data = data
            before.append((tensor, old))
    except BaseException:
        for tensor, old in before:
            tensor.data = old
        pairs.clear()  # a traceback must not keep the new memory alive
        raise
