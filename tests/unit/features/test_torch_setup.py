"""PyTorch set-up: what is set, what is left to the user, and the way back."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from flux_speedup.features import torch_setup
from flux_speedup.patching.change import AlreadySo, Declined

SETTING = torch_setup.ALLOCATOR_SETTING
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


class FakeCuda:
    """torch.cuda of a process whose CUDA is initialised or not."""

    def __init__(self, initialized: bool, backend: str = "native") -> None:
        self.calls: list[str] = []
        self.memory = SimpleNamespace(_set_allocator_settings=self.calls.append)
        self.is_initialized = lambda: initialized
        self.get_allocator_backend = lambda: backend
        self.is_available = lambda: True
        self.current_device = lambda: 0
        self.shares: list[float] = []
        self.set_per_process_memory_fraction = lambda share, _device: self.shares.append(share)


def modules(cuda: FakeCuda | None, version: str = "2.13.0") -> dict[str, object]:
    return {} if cuda is None else {"torch": SimpleNamespace(cuda=cuda, __version__=version)}


@pytest.mark.parametrize("cuda", [None, FakeCuda(initialized=False)])
def test_allocator_goes_through_the_environment_while_cuda_is_not_initialised(cuda: FakeCuda | None) -> None:
    environ: dict[str, str] = {}
    undo = torch_setup.set_allocator(modules(cuda), environ, [], "linux")
    assert set(environ.values()) == {SETTING}
    undo()
    assert environ == {}


def test_allocator_goes_through_its_call_afterwards() -> None:
    cuda, environ = FakeCuda(initialized=True), {}
    undo = torch_setup.set_allocator(modules(cuda), environ, [], "linux")
    undo()
    assert cuda.calls == [SETTING, "expandable_segments:False"]
    assert environ == {}


@pytest.mark.parametrize(
    ("environ", "argv", "platform", "backend", "reason"),
    [
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}, [], "linux", "native", "max_split_size_mb:64"),
        ({"PYTORCH_ALLOC_CONF": "x"}, [], "linux", "native", "PYTORCH_ALLOC_CONF=x"),
        ({}, ["--cuda-malloc"], "linux", "native", "--cuda-malloc"),
        ({}, [], "win32", "native", "win32"),
        ({}, [], "linux", "cudaMallocAsync", "cudaMallocAsync"),
    ],
)
def test_allocator_is_left_to_the_user(environ, argv, platform, backend, reason) -> None:
    cuda, before = FakeCuda(initialized=True, backend=backend), dict(environ)
    with pytest.raises(Declined, match=reason.replace(".", r"\.")):
        torch_setup.set_allocator(modules(cuda), environ, argv, platform)
    assert (environ, cuda.calls) == (before, [])


def test_process_share_is_limited_and_given_back() -> None:
    cuda = FakeCuda(initialized=True)
    undo = torch_setup.limit_process_share(SimpleNamespace(cuda=cuda), 0.95)
    undo()
    assert cuda.shares == [0.95, 1.0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_process_share_without_cuda_is_declined() -> None:
    with pytest.raises(Declined):
        torch_setup.limit_process_share(torch, 0.95)
