"""From a device back home: what may simply be dropped, and what has to be saved first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch

from ..errors import TransferError
from .digest import changed, checksums
from .entry import Entry

_log = logging.getLogger("flux_speedup")


def dirty(entries: Sequence[Entry]) -> list[Entry]:
    """Those entries on a device whose data is not what we put there, merged ones left out."""
    found = [entry for entry in entries if not entry.merged and not entry.in_place]
    by_device: dict[torch.device, list[Entry]] = {}
    for entry in entries:
        if not entry.merged and entry.in_place and entry.checksum is not None:
            by_device.setdefault(entry.tensor.device, []).append(entry)
    for group in by_device.values():
        found += _changed(group)
    return found


def way_home(
    entries: Sequence[Entry], dirty: Sequence[Entry], save: Callable[[torch.Tensor], torch.Tensor]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The data each tensor gets at home: its host data, or its own values in RAM if it is dirty.

    Raises TransferError where RAM for those is lacking; nothing has changed then.
    """
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
    marked = {id(entry) for entry in dirty}
    try:
        for entry in entries:
            if id(entry) in marked:
                pairs.append((entry.tensor, _saved(entry, save)))
            elif entry.host is not None:
                pairs.append((entry.tensor, entry.host))
    except (RuntimeError, MemoryError) as error:
        reason = f"changed weights cannot be saved to RAM ({error})"
        raise TransferError(None, reason, out_of_memory=True) from error
    return pairs


def _saved(entry: Entry, save: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    data = entry.tensor.data
    moved_by_host = not entry.in_place and data.device.type == "cpu"
    return data if moved_by_host else save(data)


def _changed(entries: list[Entry]) -> list[Entry]:
    before = [entry.checksum for entry in entries if entry.checksum is not None]
    try:
        answers = changed(torch.stack(before), checksums([entry.tensor.detach() for entry in entries]))
    except RuntimeError as error:
        _log.warning("the weights on the device cannot be checked (%s); saving them to RAM instead", error)
        return entries
    return [entry for entry, answer in zip(entries, answers, strict=True) if answer]
