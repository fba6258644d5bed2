"""Expandable segments: asked for where they work and nobody has a say, without a word of PyTorch to the user."""

from __future__ import annotations

import importlib.metadata
import platform
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from flux_speedup.features import allocator
from flux_speedup.features.allocator import BACK, SETTING, System, set_allocator
from flux_speedup.patching.change import Declined

LINUX = System("linux", "6.8.0-generic")


class FakeTorch:
    """torch of a process whose CUDA is initialised or not; `new` has the call that replaced the old one."""

    def __init__(
        self, initialized: bool, *, backend: str = "native", new: bool = True, hip: str | None = None
    ) -> None:
        self.calls: list[str] = []
        self.version = SimpleNamespace(cuda=None if hip else "13.0", hip=hip)
        self._C = SimpleNamespace(**({"_accelerator_setAllocatorSettings": self.calls.append} if new else {}))

        def old(settings: str) -> None:
            if new:
                warnings.warn("deprecated", FutureWarning, stacklevel=2)
            self.calls.append(settings)

        self.cuda = SimpleNamespace(
            memory=SimpleNamespace(_set_allocator_settings=old),
            is_initialized=lambda: initialized,
            get_allocator_backend=lambda: backend,
        )


def modules(found: FakeTorch | None) -> dict[str, Any]:
    return {} if found is None else {"torch": found}


@pytest.mark.parametrize("found", [None, FakeTorch(initialized=False)])
def test_through_the_environment_while_cuda_is_not_initialised(found: FakeTorch | None) -> None:
    environ: dict[str, str] = {}
    undo = set_allocator(modules(found), environ, [], LINUX)
    assert set(environ.values()) == {SETTING}
    undo()
    assert environ == {}


@pytest.mark.parametrize("new", [True, False])
def test_through_its_own_call_afterwards_and_without_a_warning(new: bool) -> None:
    found, environ = FakeTorch(initialized=True, new=new), dict[str, str]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        set_allocator(modules(found), environ, [], LINUX)()
    assert found.calls == [SETTING, BACK]
    assert environ == {}


def test_the_pytorch_of_these_tests_takes_it_without_a_warning() -> None:
    call = allocator._own_call(torch)
    assert call is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(SETTING)
        call(BACK)


@pytest.mark.parametrize(
    ("environ", "argv", "system", "more", "reason"),
    [
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}, [], LINUX, {}, "max_split_size_mb:64"),
        ({"PYTORCH_ALLOC_CONF": "x"}, [], LINUX, {}, "PYTORCH_ALLOC_CONF=x"),
        ({"PYTORCH_HIP_ALLOC_CONF": "y"}, [], LINUX, {}, "PYTORCH_HIP_ALLOC_CONF=y"),
        ({"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}, [], LINUX, {}, "PYTORCH_NO_CUDA_MEMORY_CACHING=1"),
        ({}, ["--cuda-malloc"], LINUX, {}, "--cuda-malloc"),
        ({"COMMANDLINE_ARGS": "--api '--cuda-malloc'"}, ["--api"], LINUX, {}, "--cuda-malloc"),
        ({}, [], System("win32", "10"), {}, "win32"),
        ({}, [], System("linux", "5.15.153.1-microsoft-standard-WSL2"), {}, "WSL"),
        ({}, [], System("linux", "5.15.148", jetson=True), {}, "Jetson"),
        ({}, [], LINUX, {"hip": "6.2"}, "ROCm"),
        ({}, [], LINUX, {"backend": "cudaMallocAsync"}, "cudaMallocAsync"),
    ],
)
@pytest.mark.parametrize("initialized", [True, False])
def test_it_is_left_alone(
    environ: dict[str, str], argv: list[str], system: System, more: Any, reason: str, initialized: bool
) -> None:
    if "backend" in more and not initialized:
        pytest.skip("nobody knows the backend before CUDA is initialised")
    found, before = FakeTorch(initialized, **more), dict(environ)
    with pytest.raises(Declined, match=reason.replace(".", r"\.")):
        set_allocator(modules(found), environ, argv, system)
    assert (environ, found.calls) == (before, [])


def test_a_pytorch_that_is_not_imported_says_by_its_version_that_it_is_rocm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.9.1+rocm6.4")
    environ: dict[str, str] = {}
    with pytest.raises(Declined, match="ROCm"):
        set_allocator({}, environ, [], LINUX)
    assert environ == {}

    def missing(_: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "version", missing)
    set_allocator({}, environ, [], LINUX)
    assert environ


def test_a_pytorch_without_a_call_is_left_alone() -> None:
    found = FakeTorch(initialized=True, new=False)
    del found.cuda.memory._set_allocator_settings
    with pytest.raises(Declined, match="cannot change its allocator"):
        set_allocator(modules(found), {}, [], LINUX)


@pytest.mark.parametrize(
    ("release", "jetson"), [("6.8.12-tegra", True), ("5.15.148-tegra", True), ("6.8.0-generic", False)]
)
def test_a_jetson_is_known_by_its_kernel(release: str, jetson: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    assert System.here().jetson is jetson
