"""What PyTorch, its libraries and the system say where memory is short, and what they say for other reasons."""

from __future__ import annotations

import errno

import pytest
import torch

from flux_speedup import shortage

RAM = [
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("unable to mmap 123 bytes from file <x>: Cannot allocate memory (12)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: not enough memory: you tried"),
    ValueError("The paging file is too small for this operation to complete. (os error 1455)"),
]
CARD = [
    getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)(""),
    type("OutOfMemoryError", (RuntimeError,), {})("of a backend of its own"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 17.97 GB)"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a"),
    RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("level_zero backend failed with error: 40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)"),
    RuntimeError("Could not allocate tensor with 8 bytes. There is not enough GPU video memory available!"),
]
NEITHER = [
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x4 and 8x8)"),
    OSError(errno.EACCES, "Permission denied"),
    ValueError("invalid header"),
    KeyError("memory"),
]


@pytest.mark.parametrize("error", [*RAM, *CARD, *NEITHER], ids=str)
def test_each_shortage_is_told_from_the_other_and_from_what_is_none(error: Exception) -> None:
    wrapped, replaced = ValueError("\n"), ValueError("\n")
    wrapped.__cause__, replaced.__context__ = error, error
    for each in (error, wrapped, replaced):
        assert shortage.of_ram(each) is (error in RAM)
        assert shortage.of_card(each) is (error in CARD)


@pytest.mark.parametrize(("code", "expected"), [(2, True), (700, False)])
def test_a_failure_of_the_card_is_known_by_its_code(code: int, expected: bool) -> None:
    error = RuntimeError("CUDA-Fehler")
    error.error_code = code  # type: ignore[attr-defined]
    assert shortage.of_card(error) is expected


def test_errors_that_were_raised_from_each_other_in_a_ring_are_looked_at_once() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert not shortage.of_card(first)
