"""A weight file on a device, whole: what safetensors' own loader makes, at the speed of the bus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from .files.mapping import MAPPINGS, Registry
from .files.span import find
from .residency.residency import STAGING
from .transfer.item import Item
from .transfer.lane import Lane, lane_for
from .transfer.transfer import transfer


def load(
    path: Path | str,
    device: torch.device,
    registry: Registry = MAPPINGS,
    lanes: Callable[[torch.device], Lane] = lane_for,
) -> dict[str, torch.Tensor]:
    """Every tensor of a safetensors file by name, in file order, each in memory of its own on the device.

    Raises HeaderError, MappingError, TransferError: then nothing is on the device.
    """
    views = registry.open(path).views()
    items = []
    for view in views.values():
        span = find(view, registry)
        items.append(Item(view if span is None else span, view.dtype, tuple(view.shape)))
    one = (
        torch.empty(0, device=device).device if device.index is None else device
    )  # the current one of its kind
    return dict(zip(views, transfer(items, lanes(one), STAGING), strict=True))
