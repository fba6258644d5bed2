"""One model of Forge Neo of which a part streams, and the marks that the host puts on such layers."""

from __future__ import annotations

from typing import Any

import torch

from ..forge.streamed import Streamed


class Split(Streamed):
    """One model of which a part streams. `own`: which layers stay is ours to choose, as no LoRA is in it.
    `one_pass`: nothing has left for it; none of it stays but what must.
    """

    def __init__(self, *about: Any, own: bool, one_pass: bool = False) -> None:
        self.own, self.one_pass = own, one_pass
        self.short = 0  # by how much the host, alone, would stay below what it gives the weights
        self.given = 0
        super().__init__(*about)

    @property
    def besides(self) -> int:
        """Bytes that it takes on the card and the host, alone, would not."""
        alone = self.given - self.short if self.own and not self.one_pass else self.resident
        return self.resident + self.held - alone

    @property
    def coming(self) -> int:
        """Bytes of weights that stream; with a LoRA, what is merged and stays is not known to the split."""
        if self.own:
            return super().coming
        streamed = self.stream.streamed
        return sum(unit.bytes for unit in self.units.values() if unit.number in streamed)

    @property
    def resident(self) -> int:
        return super().resident if self.own else self.always_bytes + self.split.whole - self.coming

    def _set_flags(self, module: torch.nn.Module, at_home: bool) -> None:
        if self.own:
            super()._set_flags(module, at_home)
            module.forge_patched_weights = not at_home  # type: ignore[assignment]


def is_marked(module: torch.nn.Module) -> bool:
    """Whether the host marks it where it stays in RAM."""
    return hasattr(module, "parameters_manual_cast")


def mark(module: Any, before: dict[str, Any]) -> None:
    """The marks that the host had put on a layer."""
    for name in ("prev_parameters_manual_cast", "parameters_manual_cast", "forge_patched_weights"):
        if name in before:
            setattr(module, name, before[name])
        elif name in vars(module):
            delattr(module, name)


def bring_up_to_date(model: torch.nn.Module, split: Split) -> None:
    """Layers that never stream are on the device."""
    for module in model.modules():
        if is_marked(module) and module not in split.units and module._parameters:
            split._set_flags(module, False)
