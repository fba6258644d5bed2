"""PyTorch set-up: attention kernels, cuDNN benchmark, the process's share of VRAM, the allocator.

None of it changes an image: the kernels are those PyTorch chooses from by default, the rest is memory.
torch comes in as a parameter, so that the door that runs before it can be named without importing it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from ..patching.change import AlreadySo, Declined, Undo

ALLOCATOR_SETTING = "expandable_segments:True"
ALLOCATOR_VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
_KERNELS = ("flash_sdp", "mem_efficient_sdp", "math_sdp")


def enable_attention_kernels(torch: Any) -> Undo:
    """Allow the flash, memory-efficient and math kernels of scaled_dot_product_attention."""
    cuda = torch.backends.cuda
    off = [name for name in _KERNELS if not getattr(cuda, f"{name}_enabled")()]
    if not off:
        raise AlreadySo("all three are enabled already")
    for name in off:
        getattr(cuda, f"enable_{name}")(True)

    def undo() -> None:
        for name in off:
            getattr(cuda, f"enable_{name}")(False)

    return undo


def benchmark_cudnn(torch: Any) -> Undo:
    """Let cuDNN time its convolution algorithms: faster when sizes repeat, and not bit-reproducible."""
    before = torch.backends.cudnn.benchmark
    if before:
        raise AlreadySo("on already")
    torch.backends.cudnn.benchmark = True

    def undo() -> None:
        torch.backends.cudnn.benchmark = before

    return undo


def limit_process_share(torch: Any, share: float) -> Undo:
    """Let this process take at most `share` (0 to 1) of the card's memory."""
    if not torch.cuda.is_available():
        raise Declined("no CUDA device to limit")
    device = torch.cuda.current_device()
    torch.cuda.set_per_process_memory_fraction(share, device)

    def undo() -> None:
        torch.cuda.set_per_process_memory_fraction(1.0, device)

    return undo


def set_allocator(
    modules: Mapping[str, Any],
    environ: MutableMapping[str, str],
    argv: Sequence[str],
    platform: str = sys.platform,
) -> Undo:
    """Ask for expandable segments, which keep large models from fragmenting VRAM.

    Through the environment while CUDA is not initialised, through the allocator's own call afterwards.
    A value the user set, and a backend that --cuda-malloc chose, are left alone.
    """
    if platform != "linux":
        raise Declined(f"expandable segments are not available on {platform}")
    for variable in ALLOCATOR_VARIABLES:
        if variable in environ:
            raise Declined(f"{variable}={environ[variable]} was set before us")
    if "--cuda-malloc" in argv:
        raise Declined("--cuda-malloc chose the allocator")
    torch = modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if cuda is not None and cuda.is_initialized():
        return _set_allocator_late(cuda)
    for variable in ALLOCATOR_VARIABLES:
        environ[variable] = ALLOCATOR_SETTING

    def undo() -> None:
        for variable in ALLOCATOR_VARIABLES:
            if environ.get(variable) == ALLOCATOR_SETTING:
                del environ[variable]

    return undo


def _set_allocator_late(cuda: Any) -> Undo:
    call = getattr(cuda.memory, "_set_allocator_settings", None)
    if call is None:
        raise Declined("CUDA is initialised and this PyTorch cannot change its allocator any more")
    if cuda.get_allocator_backend() != "native":
        raise Declined(f"the allocator backend is {cuda.get_allocator_backend()}")
    call(ALLOCATOR_SETTING)

    def undo() -> None:
        call("expandable_segments:False")

    return undo
