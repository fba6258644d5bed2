"""Triton's kernels where PyTorch brings Triton: on a card, else in Triton's interpreter, and compiled for cards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import flux_speedup
from flux_speedup.weights.packed.decoding import PLAIN, checksum, unpack
from flux_speedup.weights.packed.encoding import encode
from flux_speedup.weights.packed.form import BLOCK, Form

if find_spec("triton") is None or shutil.which("gcc") is None:
    pytest.skip("there is no Triton here, or no compiler, which it wants", allow_module_level=True)

ON_CARD = torch.cuda.is_available()
COMPILED = """
import sys
sys.path.insert(0, sys.argv[1])
import triton
from flux_speedup.weights.packed import kernel
from triton.backends.compiler import GPUTarget

TYPES = {"body": "*u8", "bases": "*u8", "places": "*i32", "bits": "*i16", "weights": "*i16"}
TYPES |= {"words": "*i32", "columns": "*i64", "total": "*i64"}
TYPES |= {name: "i32" for name in ("first", "count", "escapes")}
for function, constants in (
    (kernel._decode, {"WHOLE": True, "AT_ONCE": kernel._AT_ONCE}),
    (kernel._decode, {"WHOLE": False, "AT_ONCE": kernel._AT_ONCE}),
    (kernel._patch, {"AT_ONCE": kernel._AT_ONCE}),
    (kernel._sum, {"COLUMNS": kernel.COLUMNS}),
):
    signature = {name: TYPES.get(name, "constexpr") for name in function.arg_names}
    source = triton.compiler.ASTSource(fn=function, signature=signature, constexprs=constants)
    for architecture in (75, 90):
        made = triton.compile(source, target=GPUTarget("cuda", architecture, 32))
        assert f".target sm_{architecture}" in made.asm["ptx"]
        print(function.__name__, len(made.asm["cubin"]))
"""


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Any:
    if not ON_CARD:
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    found = pytest.importorskip("flux_speedup.weights.packed.kernel", exc_type=ImportError)
    monkeypatch.setattr(found, "_SLAB", 2)
    return found


def random_bits(count: int, seed: int, strange: float) -> np.ndarray:
    """Exponents in a window, others among them, and any signs and mantissas."""
    random = np.random.default_rng(seed)
    bits = random.integers(0, 65536, count)
    usual = (bits & 0x807F) | random.integers(seed % 240, seed % 240 + 15, count) << 7
    return np.where(random.random(count) < strange, bits, usual).astype(np.uint16)


def memory_of(form: Form, packed: torch.Tensor) -> torch.Tensor:
    memory = torch.zeros(form.size, dtype=torch.uint8, device="cuda" if ON_CARD else "cpu")
    memory[form.size - form.length :] = packed
    return memory


@pytest.mark.parametrize("count", [3 * BLOCK + 4097, 2 * BLOCK, BLOCK + 1, BLOCK, 999, 1000])
@pytest.mark.parametrize("strange", [0.0, 0.02])
def test_the_kernels_decode_as_the_plain_operations_do(kernel: Any, count: int, strange: float) -> None:
    bits = random_bits(count, count, strange)
    made = encode(bits)
    assert made is not None
    form, packed = made[0], torch.from_numpy(made[1])
    total = int(checksum(packed))
    for damaged in (False, True):
        if damaged:
            packed[: form.head] = 255
        memory, plain = memory_of(form, packed), memory_of(form, packed)
        summed = int(unpack(memory, form, kernel.TRITON))
        assert summed == int(unpack(plain, form, PLAIN))
        assert (summed == total) is not damaged
        if not damaged:
            assert torch.equal(memory, plain)
            assert np.array_equal(memory.cpu().view(torch.int16).numpy().view(np.uint16), bits)


@pytest.mark.parametrize("size", [1, 4, 4 * 8192 - 4, 4 * 8192, 4 * 8192 + 8, 100_001])
def test_the_checksum_is_the_same(kernel: Any, size: int) -> None:
    raw = torch.from_numpy(np.random.default_rng(size).integers(0, 256, size).astype(np.uint8))
    there = raw.cuda() if ON_CARD else raw
    assert int(kernel.TRITON.sum(there)) == int(checksum(raw))


def test_they_compile_for_cards(tmp_path: Path) -> None:
    """To machine code: needs no card, but Triton's own assembler."""
    pytest.importorskip("triton", minversion="3.3")  # before, sources were given in another way
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    words = [sys.executable, "-c", COMPILED, str(Path(flux_speedup.__file__).parents[1])]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 8
