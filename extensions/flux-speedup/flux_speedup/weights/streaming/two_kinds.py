"""The same memory as an ordinary tensor and as an inference tensor."""

from __future__ import annotations

import torch

from ..inference import made_in_inference


class TwoKinds:
    """A parameter made under inference mode has no version counter: given ordinary data, some layers refuse it."""

    def __init__(self, memory: torch.Tensor) -> None:
        self._ordinary = memory
        with torch.inference_mode():
            none = torch.empty(0, dtype=memory.dtype, device=memory.device)
            self._inference = none.set_(memory.untyped_storage(), 0, memory.shape, memory.stride())

    def like(self, parameter: torch.Tensor) -> torch.Tensor:
        """The memory as that kind which fits the parameter."""
        return self._inference if made_in_inference(parameter) else self._ordinary
