"""PyTorch set-up: what is set, what is left to the user, and the way back."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from flux_speedup.features import torch_setup
from flux_speedup.patching.change import AlreadySo, Declined

KERNELS = ("flash_sdp", "mem_efficient_sdp", "math_sdp")


def kernels() -> list[bool]:
    return [getattr(torch.backends.cuda, f"{name}_enabled")() for name in KERNELS]


def test_kernels_are_enabled_and_disabled_again() -> None:
    before = kernels()
    torch.backends.cuda.enable_flash_sdp(False)
    undo = torch_setup.enable_attention_kernels(torch)
    assert kernels() == [True, True, True]
    undo()
    assert kernels() == [False, True, True]
    torch.backends.cuda.enable_flash_sdp(before[0])
    assert kernels() == before


def test_kernels_that_are_on_need_nothing() -> None:
    with pytest.raises(AlreadySo):
        torch_setup.enable_attention_kernels(torch)


def test_cudnn_benchmark_is_set_and_put_back() -> None:
    undo = torch_setup.benchmark_cudnn(torch)
    assert torch.backends.cudnn.benchmark is True
    undo()
    assert torch.backends.cudnn.benchmark is False


def test_process_share_is_limited_and_given_back() -> None:
    shares: list[float] = []
    cuda = SimpleNamespace(
        is_available=lambda: True,
        current_device=lambda: 0,
        set_per_process_memory_fraction=lambda share, _: shares.append(share),
    )
    undo = torch_setup.limit_process_share(SimpleNamespace(cuda=cuda), 0.95)
    undo()
    assert shares == [0.95, 1.0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_process_share_without_cuda_is_declined() -> None:
    with pytest.raises(Declined):
        torch_setup.limit_process_share(torch, 0.95)
