"""Any bits at all come back as they were, and what is damaged says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_speedup.weights.packed.decoding import PLAIN, checksum, unpack
from flux_speedup.weights.packed.encoding import SAMPLED, comes_back, encode
from flux_speedup.weights.packed.encoding import checksum as summed
from flux_speedup.weights.packed.form import BLOCK, Form

SPECIAL = [0x0000, 0x8000, 0x7F80, 0xFF80, 0x7FC0, 0x7F81, 0xFFFF, 0x0001, 0x807F, 0x7F7F, 0x0080, 0x3F80]
"""Zeros of both signs, infinities, NaNs with and without payload, denormals, the largest, the smallest, one."""


def back(bits: np.ndarray) -> tuple[Form, np.ndarray, bool] | None:
    """Through the packed form, in memory that held something else before."""
    made = encode(bits)
    if made is None:
        return None
    form, packed = made
    assert packed.size == form.length
    assert form.size == 2 * bits.size
    assert form.length <= form.size
    raw = torch.from_numpy(packed)
    memory = torch.full((2 * bits.size,), 0xA5, dtype=torch.uint8)
    memory[memory.numel() - form.length :] = raw
    damaged = int(unpack(memory, form, PLAIN)) != int(checksum(raw))
    assert comes_back(form, packed, bits)
    other = bits.copy()
    other[len(bits) // 2] ^= 1
    assert not comes_back(form, packed, other)
    return form, memory.view(torch.int16).numpy().view(np.uint16), damaged


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3 * BLOCK + 5),
    st.integers(0, 2**32 - 1),
    st.integers(0, 255),
    st.sampled_from([0, 0.001, 0.05]),
)
def test_any_bits_come_back(count: int, seed: int, around: int, share: float) -> None:
    random = np.random.default_rng(seed)
    exponents = np.clip(around + random.integers(-7, 8, count), 0, 255)
    bits = (random.integers(0, 2, count) << 15 | exponents << 7 | random.integers(0, 128, count)).astype(
        np.uint16
    )
    strange = random.random(count) < share
    bits[strange] = random.choice(
        np.array(SPECIAL + list(random.integers(0, 65536, 20)), np.uint16), strange.sum()
    )
    found = back(bits)
    if found is None:
        assert Form(2 * count, int(strange.sum())).length > 0.9 * 2 * count
        return
    form, there, damaged = found
    assert not damaged
    assert form.escapes <= strange.sum()
    assert np.array_equal(there, bits)
    assert form.weights == count


@pytest.mark.parametrize("bits", [0x0000, 0x8000, 0x7FFF, 0x7F80, 0xFFC1, 0x0001, 0x3F80])
@pytest.mark.parametrize("count", [BLOCK, BLOCK + 1, 2 * BLOCK - 1, 999])
def test_constants(bits: int, count: int) -> None:
    found = back(np.full(count, bits, np.uint16))
    assert found is not None
    assert found[0].escapes == 0
    assert np.all(found[1] == bits)
    assert not found[2]


def test_escapes_in_every_block_at_its_ends() -> None:
    bits = np.full(3 * BLOCK + 7, 0x3C12, np.uint16)
    places = [
        0,
        1,
        BLOCK // 2 - 1,
        BLOCK // 2,
        BLOCK - 1,
        BLOCK,
        2 * BLOCK - 1,
        2 * BLOCK,
        3 * BLOCK,
        bits.size - 1,
    ]
    bits[places] = (SPECIAL * 2)[: len(places)]
    found = back(bits)
    assert found is not None
    assert np.array_equal(found[1], bits)
    assert found[0].escapes == len(places)


def test_every_pattern_of_sixteen_bits_is_an_escape_somewhere() -> None:
    every = np.arange(65536, dtype=np.uint16)
    bits = np.concatenate([np.full(20 * 65536, 0x3C00, np.uint16), every])
    found = back(bits)
    assert found is not None
    assert np.array_equal(found[1], bits)


@pytest.mark.parametrize("step", [SAMPLED, 2 * SAMPLED, SAMPLED + 1])
def test_exponents_that_the_samples_of_a_window_miss_or_meet_are_counted(step: int) -> None:
    bits = np.full(2 * BLOCK, 0x3C00, np.uint16)
    bits[::step] = 0x0080
    found = back(bits)
    assert found is not None
    assert np.array_equal(found[1], bits)
    assert found[0].escapes == len(bits[::step])


def test_what_does_not_gain_stays() -> None:
    random = np.random.default_rng(0)
    assert encode(random.integers(0, 65536, 100_000).astype(np.uint16)) is None
    assert encode(np.zeros(0, np.uint16)) is None


def test_weights_as_they_are_take_three_quarters() -> None:
    weights = (torch.randn(3072 * 1024, generator=torch.Generator().manual_seed(0)) * 0.02).to(torch.bfloat16)
    made = encode(weights.view(torch.int16).numpy().view(np.uint16))
    assert made is not None
    assert 0.75 < made[0].length / weights.nbytes < 0.752


def test_blocks_side_by_side_are_the_same() -> None:
    from concurrent.futures import ThreadPoolExecutor

    bits = np.random.default_rng(1).integers(0x3B00, 0x3D00, 40 * BLOCK + 3).astype(np.uint16)
    with ThreadPoolExecutor(4) as pool:
        side, alone = encode(bits, pool.map), encode(bits)
    assert side is not None
    assert alone is not None
    assert side[0] == alone[0]
    assert np.array_equal(side[1], alone[1])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70_000), st.integers(0, 2**32 - 1))
def test_a_flipped_bit_changes_the_checksum(size: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    raw = torch.from_numpy(random.integers(0, 256, size).astype(np.uint8))
    before = int(checksum(raw))
    for at in {0, size - 1, *(int(each) for each in random.integers(0, size, 5))}:
        bit = 1 << int(random.integers(8))
        raw[at] ^= bit
        assert int(checksum(raw)) != before
        raw[at] ^= bit
    assert int(checksum(raw)) == before == summed(raw.numpy())


def test_damage_never_leads_outside() -> None:
    """Places of escapes are looked at before anybody knows that they are damaged."""
    bits = np.full(BLOCK + 100, 0x3C12, np.uint16)
    bits[::1000] = 0x7FC1
    made = encode(bits)
    assert made is not None
    form, packed = made
    total = int(checksum(torch.from_numpy(packed)))
    packed[: form.head] = 0xFF
    memory = torch.zeros(2 * bits.size, dtype=torch.uint8)
    memory[memory.numel() - form.length :] = torch.from_numpy(packed)
    assert int(unpack(memory, form, PLAIN)) != total
