"""The card a WebUI computes on: as its memory manager says, or as PyTorch says where it has none."""

from __future__ import annotations

import re
import sys
from typing import Any

from ...memory import Card

MIB = 1 << 20
UNKNOWN = Card("unknown", is_gpu=None, total=None)
# torch.cuda and torch.xpu name it differently; older ones do not have it.
_FLAGS = ("is_integrated", "is_integrated_gpu")
# For those: what is known to share. Strix Halo is a Radeon 8060S, 8050S or 8040S; its like end in M.
_NAMES = re.compile(
    r"\b(GB10|N1X|Thor|Orin|Xavier|Tegra|MI300A|Radeon(\(TM\))? (Vega \d+ )?(\d{3,4}[MS] )?Graphics"
    r"|(UHD|Iris|Arc)(\(TM\)|\(R\))?( Pro| Plus| Xe)? Graphics)\b"
)


def managed_card(manager: Any) -> Card:
    """The device of a memory manager of the Forge and Comfy families."""
    # DISABLED: the CPU generates. SHARED: the device's memory is the machine's RAM.
    is_gpu = manager.vram_state.name not in ("DISABLED", "SHARED")
    total = int(manager.total_vram * MIB) if is_gpu else None
    free: int | None = None
    if is_gpu:
        try:
            free = int(manager.get_free_memory(manager.get_torch_device()))
        except Exception:
            free = None
    shares = is_gpu and shares_ram(manager.get_torch_device())
    return Card(_managed_name(manager) or "unknown", is_gpu, total, free, shares)


def _managed_name(manager: Any) -> str:
    try:
        return manager.torch_device_name or ""
    except AttributeError:
        pass
    try:
        return str(manager.get_torch_device_name(manager.get_torch_device()))
    except Exception:
        return ""


def torch_card(flags: Any) -> Card:
    """The device PyTorch offers, where the WebUI has no manager that could be asked.

    `flags`: its parsed command line, None where it cannot be had yet. Nothing is imported for this.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return UNKNOWN
    if "all" in (getattr(flags, "use_cpu", None) or ()):
        return Card("cpu", is_gpu=False, total=None)
    cuda = getattr(torch, "cuda", None)
    if cuda is not None and cuda.is_available():
        return _cuda_card(cuda, getattr(flags, "device_id", None))
    for name in ("xpu", "mps", "npu"):
        # There is a device, and how much memory it has is not asked for here.
        backend = getattr(torch, name, None) or getattr(torch.backends, name, None)
        if backend is not None and getattr(backend, "is_available", lambda: False)():
            return Card(name, is_gpu=True, total=None)
    return Card("cpu", is_gpu=False, total=None)


def _cuda_card(cuda: Any, chosen: Any) -> Card:
    try:
        index = int(chosen) if chosen is not None else cuda.current_device()
        name = str(cuda.get_device_name(index))
    except (RuntimeError, AssertionError, ValueError):
        return Card("unknown", is_gpu=True, total=None)
    shares = one_of(cuda, index)
    try:
        free, total = cuda.mem_get_info(index)
    except RuntimeError:
        return Card(name, is_gpu=True, total=None)
    return Card(name, is_gpu=True, total=int(total), free=int(free), shares_ram=shares)


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
