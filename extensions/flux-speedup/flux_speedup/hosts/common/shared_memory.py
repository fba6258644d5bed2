"""Whether a GPU's memory is the machine's RAM: then what stays on the card is missing everywhere else."""

from __future__ import annotations

import re
import sys
from typing import Any

# torch.cuda and torch.xpu name it differently; older ones do not have it.
_FLAGS = ("is_integrated", "is_integrated_gpu")
# For those: what is known to share. Strix Halo is a Radeon 8060S, 8050S or 8040S; its like end in M.
_NAMES = re.compile(
    r"\b(GB10|N1X|Thor|Orin|Xavier|Tegra|MI300A|Radeon(\(TM\))? (Vega \d+ )?(\d{3,4}[MS] )?Graphics"
    r"|(UHD|Iris|Arc)(\(TM\)|\(R\))?( Pro| Plus| Xe)? Graphics)\b"
)


def shares_ram(device: Any) -> bool:
    """Whether this device (as torch names it) does. False where nobody can say."""
    module = getattr(sys.modules.get("torch"), getattr(device, "type", ""), None)
    return module is not None and one_of(module, device)


def one_of(module: Any, device: Any) -> bool:
    """The same for a device, or a number, of torch.cuda or its like."""
    try:
        properties = module.get_device_properties(device)
    except Exception:  # no such device, no driver, another PyTorch: whatever it is, it shares nothing
        return False
    return any(getattr(properties, flag, False) for flag in _FLAGS) or is_known(
        getattr(properties, "name", "")
    )


def is_known(name: str) -> bool:
    """Whether a device of this name is known to have no memory of its own."""
    return bool(_NAMES.search(name))
