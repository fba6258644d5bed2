"""Whatever is odd about a GGUF file, it is read, refused and computed with as by Forge alone.

One odd tensor costs one. What is done is in `gguf_oddities.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.attacks.test_weights_on_forge import run_in_forge
from tests.second_device.marks import needs_card

pytestmark = [needs_card, pytest.mark.forge]
# What Forge's reader takes, and so do we.
READ = {
    "version 2", "version 3", "aligned to 0", "aligned to 1", "aligned to 4096", "big endian, nothing but blocks",
    "metadata of a megabyte", "a key twice", "no tensors", "an empty tensor", "an empty quantised one", "a number",
    "a name with odd letters", "double precision", "half precision", "whole numbers", "no class of the host's",
    "no class either", "a quantised bias", "a bias in half precision", "a weight of one dimension",
    "a weight of three dimensions", "a smaller weight", "without a weight",
}  # fmt: skip
# What it cannot compute with.
FAILING = {
    "no tensors", "no class of the host's", "no class either", "a weight of one dimension",
    "a weight of three dimensions", "a smaller weight", "without a weight",
}  # fmt: skip


@pytest.fixture(scope="module")
def found(forge_dir: Path) -> dict[str, Any]:
    return run_in_forge(forge_dir, "tests.attacks.gguf_oddities")


def test_every_odd_file_is_read_or_refused_as_by_the_host(found: dict[str, Any]) -> None:
    for name, seen in found["odd"].items():
        assert seen["ours"] == seen["alone"], name
        assert seen["viewed"] == isinstance(seen["alone"], dict) == (name in READ), (name, seen["alone"])
        assert seen["untouched"], name
    assert set(found["odd"]) >= READ


def test_what_is_computed_with_it_is_the_hosts_or_fails_in_its_words(found: dict[str, Any]) -> None:
    for name in READ:
        alone, ours = found["odd"][name]["images"]
        assert ours == alone, name
        assert ("Error" in alone) == (name in FAILING), (name, alone)


def test_bytes_of_a_header_written_over_at_random_make_no_difference(found: dict[str, Any]) -> None:
    mutated = found["mutated"]
    assert all(same for same, _, _ in mutated)
    assert all(viewed == readable for _, readable, viewed in mutated)
    assert 300 < sum(readable for _, readable, _ in mutated) < len(mutated) - 300


def test_a_file_replaced_while_it_is_read_is_never_read_with_the_other_ones_header(
    found: dict[str, Any],
) -> None:
    ours, alone = found["replaced"]
    assert ours == alone
