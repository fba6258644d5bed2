"""From a device back home: what may simply be dropped, and what has to be saved first."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping

import torch

from ..errors import TransferError
from .signature import Signature
from .state import OnDevice

_log = logging.getLogger("flux_speedup")


def changed(there: Iterable[tuple[torch.Tensor, OnDevice]]) -> set[int]:
    """Ids of those tensors on a device whose bytes are not what we put there. Takes no memory on the device.

    Where that cannot be found out they count as changed: the host, too, would copy them back.
    """
    by_signature: dict[Signature, dict[int, torch.Tensor]] = {}
    for tensor, state in there:
        by_signature.setdefault(state.signature, {})[state.number] = tensor
    found: set[int] = set()
    for signature, tensors in by_signature.items():
        found |= {id(tensors[number]) for number in _changed(signature, tensors)}
    return found


def learn(there: Iterable[tuple[torch.Tensor, OnDevice]]) -> None:
    """Remember the checksums of what leaves the device, where nobody looks for changes; nobody needs them to."""
    with contextlib.suppress(RuntimeError):
        for signature in {state.signature for _, state in there}:
            signature.learn()


def way_home(
    there: Iterable[tuple[torch.Tensor, OnDevice]],
    spoiled: set[int],
    save: Callable[[torch.Tensor], torch.Tensor],
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The data each tensor gets at home: its home's, or its own values in RAM if its id is among `spoiled`.

    Raises TransferError where RAM for those is lacking; nothing has changed then.
    """
    try:
        return [
            (tensor, save(tensor.data) if id(tensor) in spoiled else state.home) for tensor, state in there
        ]
    except (RuntimeError, MemoryError) as error:
        reason = f"changed weights cannot be saved to RAM ({error})"
        raise TransferError(None, reason) from error


def _changed(signature: Signature, tensors: Mapping[int, torch.Tensor]) -> Iterable[int]:
    try:
        return signature.changed(tensors)
    except RuntimeError as error:
        _log.warning("the weights on the device cannot be checked (%s); saving them to RAM instead", error)
        return tensors
