"""What tensor objects show: compared, copied, exchanged."""

from __future__ import annotations

import torch

from ..inference import made_in_inference
from .shells import show


def same_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are the same view of the same memory, whatever their classes tell of it."""
    one, other = one.data, other.data
    return (
        one.data_ptr() == other.data_ptr()
        and one.device == other.device
        and one.dtype == other.dtype
        and one.shape == other.shape
        and one.stride() == other.stride()
    )


def own_copy(tensor: torch.Tensor) -> torch.Tensor:
    """The same values in RAM that belongs to nobody else. Raises RuntimeError where there is none."""
    with torch.inference_mode(made_in_inference(tensor)), torch.no_grad():
        return torch.empty_like(tensor, device="cpu").copy_(tensor)


def set_data(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Give each tensor object its new data; all or none. Works under grad, no_grad and inference mode."""
    before: list[tuple[torch.Tensor, torch.Tensor]] = []
    try:
        for tensor, data in pairs:
            old = tensor.data
            show(tensor, data)
            before.append((tensor, old))
    except BaseException:
        for tensor, old in before:
            show(tensor, old)
        pairs.clear()  # a traceback must not keep the new memory alive
        raise
