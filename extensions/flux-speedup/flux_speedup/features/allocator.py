"""PyTorch's allocator: expandable segments, which keep large models from fragmenting VRAM.

Only where nobody else has a say in it and where they are known to work: CUDA on a Linux of its own.
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..configuration.sources import command_line
from ..patching.change import Declined, Undo

SETTING = "expandable_segments:True"
BACK = "expandable_segments:False"
VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
OTHERS = ("PYTORCH_HIP_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING")
_TEGRA = Path("/etc/nv_tegra_release")


@dataclass(frozen=True)
class System:
    """What runs here: `platform` as sys says it, the kernel's `release`, and whether it is a Jetson."""

    platform: str
    release: str
    jetson: bool = False

    @classmethod
    def here(cls) -> System:
        release = platform.release()
        return cls(sys.platform, release, "tegra" in release.lower() or _TEGRA.exists())


def set_allocator(
    modules: Mapping[str, Any],
    environ: MutableMapping[str, str],
    argv: Sequence[str],
    system: System | None = None,
) -> Undo:
    """Ask for expandable segments. Raises Declined where a user or this machine has other plans.

    Through the environment while CUDA is not initialised, through the allocator's own call afterwards.
    """
    torch = modules.get("torch")
    why = (
        _not_here(system or System.here())
        or _chosen_by_user(environ, command_line(argv, environ))
        or _not_in(torch)
    )
    if why:
        raise Declined(why)
    if torch is not None and torch.cuda.is_initialized():
        return _set_late(torch)
    for variable in VARIABLES:
        environ[variable] = SETTING

    def undo() -> None:
        for variable in VARIABLES:
            if environ.get(variable) == SETTING:
                del environ[variable]

    return undo


def _not_here(system: System) -> str | None:
    if system.platform != "linux":
        return f"expandable segments are not available on {system.platform}"
    if "microsoft" in system.release.lower():
        return "expandable segments are not available on WSL"
    if system.jetson:
        return "expandable segments are not available on a Jetson"
    return None


def _chosen_by_user(environ: Mapping[str, str], words: Sequence[str]) -> str | None:
    for variable in (*VARIABLES, *OTHERS):
        if variable in environ:
            return f"{variable}={environ[variable]} was set before us"
    return "--cuda-malloc chose the allocator" if "--cuda-malloc" in words else None


def _not_in(torch: Any) -> str | None:
    """Why this PyTorch has none; one that is not imported yet says by its version what it was built for."""
    if torch is None:
        try:
            built = importlib.metadata.version("torch")
        except importlib.metadata.PackageNotFoundError:
            return None
        return "expandable segments are not available on ROCm" if "rocm" in built else None
    if getattr(torch.version, "hip", None):
        return "expandable segments are not available on ROCm"
    return None


def _set_late(torch: Any) -> Undo:
    call = _own_call(torch)
    if call is None:
        raise Declined("CUDA is initialised and this PyTorch cannot change its allocator any more")
    backend = torch.cuda.get_allocator_backend()
    if backend != "native":
        raise Declined(f"the allocator backend is {backend}")
    call(SETTING)

    def undo() -> None:
        call(BACK)

    return undo


def _own_call(torch: Any) -> Callable[[str], object] | None:
    """What the running PyTorch offers: where there is the first, the second says that it is deprecated."""
    found: Callable[[str], object] | None = getattr(torch._C, "_accelerator_setAllocatorSettings", None)
    return found or getattr(torch.cuda.memory, "_set_allocator_settings", None)
