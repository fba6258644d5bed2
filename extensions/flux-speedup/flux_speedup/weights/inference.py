"""Tensor objects of inference mode."""

from __future__ import annotations

import torch


def made_in_inference(tensor: torch.Tensor) -> bool:
    """Whether a tensor object was made in inference mode, whatever somebody has it show by now.

    It has no version counter: layers can compute with it only while what it shows is of inference mode as well.
    """
    if tensor.is_inference():
        return True
    try:
        return tensor._version < 0
    except RuntimeError:
        return True
