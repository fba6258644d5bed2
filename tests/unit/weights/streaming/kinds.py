"""A host's class of weights, for tests: a test's own says what is different with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from flux_speedup.weights.residency.forms import Recipe


class Kind:
    """Of weights that are no more than their bytes."""

    foreign = ""

    def owns(self, tensor: Any) -> bool:
        return True

    def recipe(self, tensor: Any) -> Recipe | None:
        return None

    def companions(self, tensor: Any) -> Mapping[str, torch.Tensor]:
        return {}

    def merged(self, tensor: Any, merge: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        raise NotImplementedError
