"""Headers that are odd or wrong: taken as the safetensors library takes them; one odd tensor costs one tensor."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from flux_speedup.weights.errors import WeightsError
from flux_speedup.weights.files.mapping import Registry
from flux_speedup.weights.files.span import find
from tests.soak import headers
from tests.unit.weights.weight_files import CARD, file_bytes, module_of, raw_bytes, residency_of

COUNT = 5_000


def test_thousands_of_generated_headers_are_taken_as_the_library_takes_them(
    record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = headers.run(COUNT, seed=7)
    record_property("headers", str(counts))
    with capsys.disabled():
        print(f"\n{counts}", end=" ")
    assert counts.different == []
    assert counts.accepted > COUNT // 5
    assert counts.refused > COUNT // 5


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


ODD = {
    "unaligned": (
        {"a": entry("U8", [3], 0, 3), "b": entry("F32", [5], 3, 23), "c": entry("BF16", [2, 2], 23, 31)},
        1,
    ),
    "oddly sized": (
        {"a": entry("F16", [3], 0, 6), "b": entry("F64", [2], 6, 22), "c": entry("U8", [1], 22, 23)},
        8,
    ),
    "no padding": ({"a": entry("F32", [6], 0, 24), "long name": entry("I16", [2], 24, 28)}, 1),
    "F8_E8M0": ({"a": entry("F8_E8M0", [2, 3], 0, 6), "b": entry("F32", [2], 6, 14)}, 8),
    "F4": ({"a": entry("F4", [2, 6], 0, 6), "b": entry("BF16", [2], 6, 10)}, 8),
    "FNUZ": ({"a": entry("F8_E4M3FNUZ", [4], 0, 4), "b": entry("F8_E5M2FNUZ", [4], 4, 8)}, 8),
    "C64": ({"a": entry("C64", [2], 0, 16), "b": entry("F32", [2], 16, 24)}, 8),
    "unsigned": (
        {"a": entry("U64", [2], 0, 16), "b": entry("U16", [2], 16, 20), "c": entry("U32", [1], 20, 24)},
        8,
    ),
    "metadata null": ({"__metadata__": None, "a": entry("F32", [2], 0, 8)}, 8),
    "empty ones": (
        {"a": entry("F32", [0, 3], 0, 0), "b": entry("F32", [2], 0, 8), "c": entry("F4", [0], 8, 8)},
        8,
    ),
    "many dimensions": ({"a": entry("F32", [1] * 60 + [2], 0, 8)}, 8),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("space", [b"", b" \n\t"])
def test_the_file_gives_what_the_library_gives(tmp_path: Path, name: str, space: bytes) -> None:
    content, pad = ODD[name]
    size = max(one["data_offsets"][1] for one in content.values() if one)
    data = bytes(range(64, 64 + size))
    path = tmp_path / "a.safetensors"
    path.write_bytes(file_bytes(space + json.dumps(content).encode(), data, pad=pad))
    theirs = safetensors.torch.load_file(path)
    registry = Registry()
    ours = registry.open(path).views()
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert (ours[key].dtype, ours[key].shape) == (tensor.dtype, tensor.shape)
        assert raw_bytes(ours[key]) == raw_bytes(tensor)


def test_what_is_not_aligned_is_copied_and_the_rest_viewed_and_all_is_loaded(tmp_path: Path) -> None:
    content = {"a": entry("F32", [4], 0, 16), "b": entry("U8", [1], 16, 17), "c": entry("F32", [2], 17, 25)}
    path = tmp_path / "a.safetensors"
    path.write_bytes(file_bytes(content, bytes(range(25))))
    registry = Registry()
    module = module_of(registry.open(path).views())
    assert [find(module.get_parameter(name), registry) is not None for name in "abc"] == [True, True, False]
    expected = {name: raw_bytes(parameter) for name, parameter in module.named_parameters()}
    residency = residency_of(module, registry)
    assert residency.load(CARD).skipped == ()
    assert {name: raw_bytes(parameter) for name, parameter in module.named_parameters()} == expected
    residency.unload()
    assert {name: raw_bytes(parameter) for name, parameter in module.named_parameters()} == expected


def test_a_dtype_that_torch_has_not_is_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(
        file_bytes({"a": entry("F6_E2M3", [4, 2], 0, 6), "b": entry("F4", [2, 3], 6, 9)}, bytes(range(9)))
    )
    views = Registry().open(path).views()
    assert {name: view.tolist() for name, view in views.items()} == {"a": [0, 1, 2, 3, 4, 5], "b": [6, 7, 8]}


@pytest.mark.parametrize(
    "shape",
    [
        [1 << 62, 4, 0],
        [0, 1 << 62, 4],
        [1 << 63, 0],
        [0, (1 << 64) - 1, 2],
        [1 << 40, 1 << 40, 0],
        [1 << 200, 0],
    ],
)
@pytest.mark.parametrize("dtype", ["F32", "U8", "F4"])
def test_a_wrong_shape_is_a_weights_error_or_a_tensor(tmp_path: Path, shape: list[int], dtype: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(file_bytes({"a": entry(dtype, shape, 0, 0), "b": entry("F32", [2], 0, 8)}, bytes(8)))
    with contextlib.suppress(WeightsError):
        views = Registry().open(path).views()
        assert views["a"].numel() == 0
        assert torch.equal(views["b"], torch.zeros(2))
