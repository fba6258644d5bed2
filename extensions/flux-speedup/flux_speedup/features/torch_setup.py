"""PyTorch set-up: attention kernels, cuDNN benchmark, the process's share of VRAM.

None of it changes an image: the kernels are those PyTorch chooses from by default, the rest is memory.
torch comes in as a parameter, so that the door that runs before it can be named without importing it.
"""

from __future__ import annotations

from typing import Any

from ..patching.change import AlreadySo, Declined, Undo

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
