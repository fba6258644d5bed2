"""A pass that runs out of memory, by whatever words, is made again as often as something gives way."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from flux_speedup.hosts.forge.streamed_pass import MORE, Passes

SHORT = [
    torch.OutOfMemoryError("full"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED."),
    RuntimeError("CUDA error: out of memory"),
]


@pytest.mark.parametrize(
    ("error", "gives", "asked"),
    [
        *((error, 2, [MORE, MORE]) for error in SHORT),
        *((error, 1, [MORE, MORE]) for error in SHORT),
        (ValueError("the order of things"), 2, []),
    ],
)
def test_a_pass_is_made_again_while_something_gives_way(
    monkeypatch: pytest.MonkeyPatch, error: Exception, gives: int, asked: list[int]
) -> None:
    """It works where twice something has given way; `gives`: how often something can."""
    host = SimpleNamespace(soft_empty_cache=lambda: None)
    monkeypatch.setitem(sys.modules, "backend.memory_management", host)
    seen: list[int] = []

    def make_room(size: int) -> int:
        seen.append(size)
        return size if len(seen) <= gives else 0

    def one_pass(control: dict[str, list[str]]) -> str:
        control["input"].pop()
        if len(seen) < 2 or len(seen) > gives:
            raise error
        return "made"

    run = Passes(make_room).wrap(one_pass)
    if gives == len(asked):
        assert run(control={"input": ["residual"]}) == "made"
    else:
        with pytest.raises(type(error)) as raised:
            run(control={"input": ["residual"]})
        assert raised.value is error
    assert seen == asked
