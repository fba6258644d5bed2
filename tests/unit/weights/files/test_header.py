"""The header is read within bounds; whatever is not exactly a safetensors file is refused with a reason."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from flux_speedup.weights.errors import HeaderError
from flux_speedup.weights.files.header import DTYPES, MAX_HEADER_BYTES, read_header
from tests.unit.weights.weight_files import file_bytes, header_of, random_tensor

PATH = Path("somewhere/model.safetensors")


def parsed(raw: bytes) -> Any:
    return read_header(io.BytesIO(raw), len(raw), PATH)


shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(shapes, st.sampled_from(sorted(set(DTYPES) - {"F4"}))), max_size=6))
def test_reads_what_the_library_writes(specs: list[tuple[tuple[int, ...], str]]) -> None:
    tensors = {f"t{n}": random_tensor(shape, DTYPES[name], n) for n, (shape, name) in enumerate(specs)}
    raw = save(tensors, metadata={"made": "here"})
    header = parsed(raw)
    assert set(header.tensors) == set(tensors)
    assert header.metadata == {"made": "here"}
    for name, entry in header.tensors.items():
        piece = bytearray(raw[entry.offset : entry.offset + entry.length])
        assert entry.shape == tuple(tensors[name].shape)
        assert entry.dtype == tensors[name].dtype
        if piece:
            there = torch.frombuffer(piece, dtype=torch.uint8)
            assert torch.equal(there, tensors[name].reshape(-1).view(torch.uint8))


ONE = header_of({"a": torch.zeros(2, 3), "b": torch.zeros(4)})
DATA = bytes(40)


def changed(name: str, **fields: Any) -> dict[str, Any]:
    return {**ONE, name: {**ONE[name], **fields}}


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "8 bytes"),
        (b"\x01\x00", "8 bytes"),
        ((MAX_HEADER_BYTES + 1).to_bytes(8, "little"), "limit"),
        ((1 << 63).to_bytes(8, "little") + b"{}", "limit"),
        ((100).to_bytes(8, "little") + b"{}", "behind the end"),
        (file_bytes(b"[]"), "not a JSON object"),
        (file_bytes(b'\x0c{"a": 1}'), "not JSON"),
        (file_bytes(b'{"a": '), "not JSON"),
        (file_bytes(b'{"\xff": 1}'), "not JSON"),
        (file_bytes(b'{"a":' * 200_000), "not JSON"),
        (file_bytes(b'{"__metadata__": {}, "__metadata__": {}}'), "two of __metadata__"),
        (
            file_bytes(b'{"a": {"dtype": "U8", "dtype": "U8", "shape": [], "data_offsets": []}}'),
            "two of dtype",
        ),
        (file_bytes(b'{"a": NaN}'), "not JSON"),
        (file_bytes(b'{"\\ud800": 1}'), "half a character"),
        (file_bytes({"__metadata__": {"a": 1}}), "__metadata__"),
        (file_bytes({"__metadata__": []}), "__metadata__"),
        (file_bytes({"a": 5}), "lacks"),
        (file_bytes({"a": {"dtype": "F32", "shape": []}}), "lacks"),
        (file_bytes(changed("b", dtype="F5"), DATA), "dtype"),
        (file_bytes(changed("b", dtype="F4"), DATA), "do not fit"),
        (file_bytes(changed("b", dtype=["F32"]), DATA), "dtype"),
        (file_bytes(changed("b", shape=[-4]), DATA), "shape"),
        (file_bytes(changed("b", shape=[True, 4]), DATA), "shape"),
        (file_bytes(changed("b", shape=[4.0]), DATA), "shape"),
        (file_bytes(changed("b", shape="4"), DATA), "shape"),
        (file_bytes(changed("b", shape=[1 << 64]), DATA), "shape"),
        (file_bytes(changed("b", shape=[5]), DATA), "do not fit"),
        (file_bytes(changed("b", shape=[1 << 62, 1 << 62]), DATA), "do not fit"),
        (file_bytes(changed("b", shape=[1 << 62, 4, 0]), DATA), "do not fit"),
        (file_bytes(changed("b", data_offsets=[40, 24]), DATA), "begin and an end"),
        (file_bytes(changed("b", data_offsets=[24]), DATA), "begin and an end"),
        (file_bytes(changed("b", data_offsets=[20, 36]), DATA), "overlaps"),
        (file_bytes(changed("b", data_offsets=[28, 44]), DATA + bytes(4)), "hole"),
        (file_bytes(ONE, DATA + b"x"), "the file at"),
        (file_bytes(ONE, DATA[:-1]), "the file at"),
    ],
)
def test_refuses(raw: bytes, reason: str) -> None:
    with pytest.raises(HeaderError, match=reason) as caught:
        parsed(raw)
    assert caught.value.path == PATH
    assert str(PATH) in str(caught.value)


def test_names_the_tensor_concerned() -> None:
    with pytest.raises(HeaderError, match="'b'") as caught:
        parsed(file_bytes(changed("b", dtype="F5"), DATA))
    assert caught.value.key == "b"


def test_a_file_that_ends_while_it_is_read() -> None:
    raw = file_bytes(ONE, DATA)
    with pytest.raises(HeaderError, match="header ends"):
        read_header(io.BytesIO(raw[:20]), len(raw), PATH)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_damaged_files_are_refused_or_read_within_their_bounds(data: st.DataObject) -> None:
    raw = bytearray(file_bytes(ONE, DATA))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw
    try:
        header = parsed(bytes(raw))
    except HeaderError:
        return
    for entry in header.tensors.values():
        assert header.data_start <= entry.offset <= entry.offset + entry.length <= len(raw)
