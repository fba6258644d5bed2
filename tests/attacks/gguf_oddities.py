"""GGUF files that are not as they should be, read by Forge alone and by us, and computed with.

Runs in Forge's environment: `test_gguf_oddities.py` starts it and judges what it prints.
"""

from __future__ import annotations

import contextlib
import json
import random
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.attacks.forge_scene import start
from tests.attacks.gguf_on_forge import LAYERS, WIDTH, Scene, digest, quantised

F32, F16, Q8_0, Q8_1, IQ4_NL, I8, F64 = 0, 1, 8, 9, 20, 24, 28
MUTATIONS = 3000
Tensors = dict[str, tuple[int, tuple[int, ...], bytes]]
"""Type, shape and bytes by name."""


@dataclass(frozen=True)
class File:
    """A file of these tensors; `order`: of its bytes, in the words of `struct`."""

    tensors: Tensors
    version: int = 3
    order: str = "<"
    alignment: int = 32
    keys: bytes = b""
    key_count: int = 0
    tensor_count: int | None = None

    def content(self) -> bytes:
        pack = struct.pack
        count = len(self.tensors) if self.tensor_count is None else self.tensor_count
        keys, key_count = self.keys, self.key_count
        if self.alignment != 32:
            keys += self._text("general.alignment") + pack(f"{self.order}II", 4, self.alignment)
            key_count += 1
        head = b"GGUF" + pack(f"{self.order}IQQ", self.version, count, key_count) + keys
        data = b""
        for name, (kind, shape, raw) in self.tensors.items():
            data += bytes(-len(data) % max(self.alignment, 1))
            sizes = shape[::-1]
            head += self._text(name)
            head += pack(f"{self.order}I{len(sizes)}QIQ", len(sizes), *sizes, kind, len(data))
            data += raw
        return head + bytes(-len(head) % max(self.alignment, 1)) + data

    def _text(self, words: str) -> bytes:
        raw = words.encode()
        return struct.pack(f"{self.order}Q", len(raw)) + raw


def layers() -> File:
    """What `Layers` are built from: matrices in Q8_0, biases in single precision."""
    tensors: Tensors = {}
    for number in range(LAYERS):
        raw = quantised("Q8_0", number).tobytes()
        tensors[f"layers.{number}.weight"] = Q8_0, (WIDTH, WIDTH), raw
        bias = np.random.default_rng(90 + number).standard_normal(WIDTH, dtype=np.float32)
        tensors[f"layers.{number}.bias"] = F32, (WIDTH,), bias.tobytes()
    return File(tensors)


def odd_headers(whole: File) -> dict[str, bytes]:
    """Files by what is odd about the whole of them."""
    content, blocks = whole.content(), {n: each for n, each in whole.tensors.items() if n.endswith("weight")}
    at = content.index(b"layers.1.weight")
    text = struct.pack("<Q", 3) + b"key" + struct.pack("<I", 8)
    files = {f"version {number}": replace(whole, version=number) for number in (0, 1, 2, 3, 4)}
    files |= {f"aligned to {count}": replace(whole, alignment=count) for count in (0, 1, 4096)}
    files |= {
        "big endian": replace(whole, order=">"),
        "big endian, nothing but blocks": replace(whole, order=">", tensors=blocks),
        "metadata longer than the file": replace(
            whole, keys=text + struct.pack("<Q", 1 << 60) + b"x", key_count=1
        ),
        "metadata of a megabyte": replace(
            whole, keys=text + struct.pack("<Q", 1 << 20) + bytes(1 << 20), key_count=1
        ),
        "a key twice": replace(whole, keys=2 * (text + struct.pack("<Q", 1) + b"x"), key_count=2),
        "more keys than there are": replace(whole, key_count=1 << 40),
        "more tensors than there are": replace(whole, tensor_count=1 << 40),
        "no tensors": File({}),
    }
    return {name: file.content() for name, file in files.items()} | {
        "cut": content[:-100],
        "header cut": content[:200],
        "no GGUF": bytes(1000),
        "empty": b"",
        "a name twice": content.replace(b"layers.1.weight", b"layers.0.weight"),
        "a name that is no text": content[:at] + b"\xff" + content[at + 1 :],
    }


def odd_tensors(whole: File) -> dict[str, bytes]:
    """Files by what is odd about one of their tensors, or about one more."""
    import gguf

    weight, bias = "layers.2.weight", "layers.2.bias"
    values = np.random.default_rng(1).standard_normal((WIDTH, WIDTH), dtype=np.float32) / 30
    row = gguf.quants.quantize(values[:1], gguf.GGMLQuantizationType.Q8_0).tobytes()
    shape, raw = values.shape, whole.tensors[weight][2]
    one: dict[str, tuple[str, int, tuple[int, ...], bytes]] = {
        "an empty tensor": ("none", F32, (0,), b""),
        "an empty quantised one": ("none", Q8_0, (0, WIDTH), b""),
        "a number": ("one", F32, (), struct.pack("<f", 3.0)),
        "an unknown type": ("unknown", 99, (4,), bytes(16)),
        "a name with odd letters": ("\u00e9\u4e2d", F32, (1,), bytes(4)),
        "rows that are no whole blocks": (weight, Q8_0, (WIDTH, WIDTH - 1), raw),
        "double precision": (weight, F64, shape, values.astype(np.float64).tobytes()),
        "half precision": (weight, F16, shape, values.astype(np.float16).tobytes()),
        "whole numbers": (weight, I8, shape, bytes(range(256)) * WIDTH),
        "no class of the host's": (weight, IQ4_NL, shape, quantised("IQ4_NL", 3).tobytes()),
        "no class either": (weight, Q8_1, shape, bytes(values.size // 32 * 40)),
        "a quantised bias": (bias, Q8_0, (WIDTH,), row),
        "a bias in half precision": (bias, F16, (WIDTH,), values[0].astype(np.float16).tobytes()),
        "a weight of one dimension": (weight, Q8_0, (WIDTH,), row),
        "a weight of three dimensions": (weight, Q8_0, (1, WIDTH, WIDTH), raw),
        "a smaller weight": (weight, Q8_0, (32, WIDTH), raw[: 32 * len(row)]),
    }
    made = {name: File(whole.tensors | {key: tuple(each)}).content() for name, (key, *each) in one.items()}
    return made | {
        "without a weight": File({n: t for n, t in whole.tensors.items() if n != weight}).content()
    }


def mutated() -> Iterator[bytes]:
    """The header of a small file with some bytes in it written over, or the file cut."""
    file = File(
        {f"{name}.weight": (Q8_0, (2, 64), bytes(range(136))) for name in "ab"} | {"c": (F16, (3,), bytes(6))}
    )
    whole = file.content()
    header = len(whole) - 2 * 160 + 24
    chosen = random.Random(7)
    for _ in range(MUTATIONS):
        content = bytearray(whole)
        for _ in range(chosen.choice((1, 1, 2, 4))):
            at = chosen.randrange(4, header)
            new = chosen.choice((0, 1, 2, 8, 30, 32, 255, chosen.randrange(256)))
            content[at] = new
        yield bytes(content[: chosen.randrange(len(content))] if chosen.random() < 0.1 else content)


def outcome(read: Callable[[str], Any], file: Path) -> Any:
    """The tensors that a reader finds, or what it refuses the file with."""
    try:
        return {name: told(tensor) for name, tensor in read(str(file)).items()}
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def told(tensor: Any) -> list[Any]:
    data = tensor.data
    quantisation = tensor.gguf_cls.__name__ if tensor.gguf_cls is not None else None
    return [
        str(data.dtype),
        list(data.shape),
        [int(size) for size in tensor.real_shape],
        quantisation,
        digest(data),
    ]


class Reader:
    """As our `load_torch_file` reads. `viewed`: whether it was not the host that read the last file."""

    def __init__(self, registry: Any) -> None:
        from backend.utils import load_torch_file

        self._registry, self._host = registry, load_torch_file
        self.viewed = False

    def __call__(self, file: str) -> Any:
        from flux_speedup.hosts.forge import gguf_files
        from flux_speedup.weights.errors import WeightsError

        self.viewed = True
        try:
            return gguf_files.views(self._registry, file)
        except WeightsError:
            self.viewed = False
            return self._host(file)


class Replaced:
    """A registry after whose look at a file another one has its name."""

    def __init__(self, registry: Any, content: bytes) -> None:
        self._registry, self._content = registry, content

    def open(self, file: str, read: Any) -> Any:
        mapping = self._registry.open(file, read)
        other = Path(f"{file}.new")
        other.write_bytes(self._content)
        other.replace(file)
        return mapping


def image(manager: Any, file: Path, ours: bool) -> str:
    """What is computed with a file, or what the host says."""
    try:
        scene = Scene(manager, file, ours)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    try:
        seen = scene.image()
        scene.unload()
        return f"{seen} {scene.image()}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        scene.end()


def compared(file: Path, content: bytes, reader: Reader) -> dict[str, Any]:
    from backend.utils import load_torch_file

    file.write_bytes(content)
    found = {"alone": outcome(load_torch_file, file), "ours": outcome(reader, file)}
    return found | {"viewed": reader.viewed, "untouched": file.read_bytes() == content}


def main() -> None:
    found: dict[str, Any] = {"odd": {}, "mutated": []}
    with contextlib.redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as folder:
        manager, file, whole = start(), Path(folder, "odd.gguf"), layers()
        from flux_speedup.weights.files.mapping import MAPPINGS

        reader = Reader(MAPPINGS)
        for name, content in (odd_headers(whole) | odd_tensors(whole)).items():
            seen = found["odd"][name] = compared(file, content, reader)
            if isinstance(seen["alone"], dict):
                seen["images"] = [image(manager, file, ours) for ours in (False, True)]
            file.unlink()
        for content in mutated():
            seen = compared(file, content, reader)
            file.unlink()
            found["mutated"].append(
                [seen["alone"] == seen["ours"], isinstance(seen["alone"], dict), seen["viewed"]]
            )
        file.write_bytes(whole.content())
        other = odd_headers(whole)["aligned to 4096"]
        found["replaced"] = [
            outcome(Reader(Replaced(MAPPINGS, other)), file),
            outcome(Reader(MAPPINGS), file),
        ]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
