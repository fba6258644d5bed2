"""Generated headers, taken by us and by the safetensors library: both must accept the same, and read the same."""

from __future__ import annotations

import io
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors

from flux_speedup.weights.errors import HeaderError
from flux_speedup.weights.files.header import BITS, DTYPES, read_header

LIBRARY = f"safetensors {safetensors.__version__}"
SHOWN = 20
_UNKNOWN = ("F128", "f32", "", "U4", "I32 ", "F8", "BF16\u0000")
_NUMBERS: tuple[Any, ...] = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    1 << 31,
    1 << 32,
    1 << 61,
    1 << 62,
    1 << 63,
    (1 << 64) - 1,
    1 << 64,
)
_ODD: tuple[Any, ...] = (-1, True, None, 1.0, "2", [], {}, 1e300, [1], {"a": 1}, -(1 << 63), 1 << 80)
_TEXTS = (
    *(
        "NaN",
        "Infinity",
        "-0",
        "1e0",
        "1e999",
        "1e-999",
        "01",
        "+1",
        ".5",
        "5.",
        "0x1",
        "-",
        "nul",
        "tru",
        "9" * 400,
    ),
    *(
        '"\\ud800"',
        '"\\ud83d\\ude00"',
        '"\\ude00\\ud83d"',
        '"\\uD83D\\u0041"',
        '"\\x41"',
        '"\\u00e9"',
        '"\\/"',
        '"\t"',
    ),
    *(
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775809",
        '"\\\\ud800"',
        '"\\ud800\\\\udc00"',
    ),
    *("[" * 130 + "]" * 130, '{"a":' * 120 + "1" + "}" * 120, "/* */ 1", "'a'", "1,", ""),
)
_SPACE = ("", " ", "\n", "\t\r ", "\x0c", "\u00a0", "\x00", "\ufeff", "  ")


@dataclass
class Counts:
    """What came of it: how many were accepted and refused by both, and the first that were not."""

    accepted: int = 0
    refused: int = 0
    different: list[tuple[str, bytes]] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.accepted + self.refused} headers in {self.seconds:.0f} s, against {LIBRARY}: {self.accepted} "
            f"accepted and {self.refused} refused by both, {len(self.different)} not alike"
        )


def run(count: int, seed: int = 0) -> Counts:
    """Compare `count` generated headers; stops after 20 that differ."""
    counts, started = Counts(), time.monotonic()
    for raw in generated(count, seed):
        ours, theirs = _ours(raw), _theirs(raw)
        if ours != theirs:
            counts.different.append((f"ours {ours}, theirs {theirs}", raw))
            if len(counts.different) >= SHOWN:
                break
        elif ours is None:
            counts.refused += 1
        else:
            counts.accepted += 1
    counts.seconds = time.monotonic() - started
    return counts


def generated(count: int, seed: int) -> Iterator[bytes]:
    """Whole files, from sound ones to ones with several faults."""
    chance = random.Random(seed)
    for _ in range(count):
        content, data = _sound(chance)
        for _ in range(chance.choice((0, 0, 0, 1, 1, 1, 2, 3))):
            chance.choice(_CHANGES)(chance, content)
        text = _text(chance, content)
        if chance.random() < 0.25:
            text = _spoil(chance, text)
        raw = text.encode("utf-8", "surrogatepass")
        if chance.random() < 0.1:
            raw = _spoil_bytes(chance, raw)
        length = (
            len(raw) if chance.random() < 0.97 else chance.choice((0, 1, len(raw) - 1, len(raw) + 1, 1 << 63))
        )
        data = data if chance.random() < 0.95 else data + b"x" if chance.random() < 0.5 else data[:-1]
        yield max(0, length).to_bytes(8, "little") + raw + data


# Objects are lists of pairs here, so that a key can occur twice.
Pairs = list[tuple[str, Any]]


class _Object(list[tuple[str, Any]]):
    pass


def _sound(chance: random.Random) -> tuple[_Object, bytes]:
    content, position = _Object(), 0
    if chance.random() < 0.4:
        value = chance.choice(
            (None, _Object(), _Object([("format", "pt")]), _Object([("a", "1"), ("a", "2")]))
        )
        content.append(("__metadata__", value))
    for number in range(chance.choice((0, 1, 1, 2, 3, 5))):
        dtype = chance.choice(list(BITS))
        shape = [chance.choice((0, 1, 1, 2, 3, 4, 8)) for _ in range(chance.choice((0, 1, 1, 2, 3)))]
        bits = BITS[dtype]
        for size in shape:
            bits *= size
        length = bits // 8
        fields = _Object(
            [("dtype", dtype), ("shape", shape), ("data_offsets", [position, position + length])]
        )
        chance.shuffle(fields)
        content.append((f"t{number}", fields))
        position += length
    chance.shuffle(content)
    return content, bytes(position)


def _entry(chance: random.Random, content: _Object) -> _Object | None:
    entries = [value for name, value in content if isinstance(value, _Object) and name != "__metadata__"]
    return chance.choice(entries) if entries else None


def _change_field(chance: random.Random, content: _Object) -> None:
    entry = _entry(chance, content)
    if entry:
        index = chance.randrange(len(entry))
        name = entry[index][0]
        entry[index] = name, _value(chance, name)


def _value(chance: random.Random, name: str) -> Any:
    if name == "dtype" and chance.random() < 0.7:
        word = chance.choice([*BITS, *_UNKNOWN])
        return chance.choice(
            (word, word, word, _Object([(word, None)]), _Object([(word, _Object())]), [word])
        )
    if chance.random() < 0.8:
        return [chance.choice(_NUMBERS) for _ in range(chance.choice((0, 1, 2, 2, 3)))]
    return chance.choice(
        ([chance.choice(_ODD)], chance.choice(_ODD), [chance.choice(_NUMBERS), chance.choice(_ODD)])
    )


def _drop_field(chance: random.Random, content: _Object) -> None:
    entry = _entry(chance, content)
    if entry:
        entry.pop(chance.randrange(len(entry)))


def _add_field(chance: random.Random, content: _Object) -> None:
    entry = _entry(chance, content)
    if entry is not None:
        known = chance.choice((*entry, ("more", 1), ("more", 1), ("", chance.choice(_ODD))))
        entry.insert(chance.randrange(len(entry) + 1), known)


def _add_entry(chance: random.Random, content: _Object) -> None:
    value = chance.choice(
        (None, [], "a", 1, _Object(), ["U8", [0], [0, 0]], ["U8", [0], [0, 0], 1], ["F6", [0], [0, 0]])
    )
    content.insert(
        chance.randrange(len(content) + 1), (chance.choice(("t0", "t9", "", "__metadata__")), value)
    )


def _copy_entry(chance: random.Random, content: _Object) -> None:
    if content:
        content.insert(chance.randrange(len(content) + 1), chance.choice(content))


def _as_sequence(chance: random.Random, content: _Object) -> None:
    if content:
        index = chance.randrange(len(content))
        name, value = content[index]
        if isinstance(value, _Object):
            order = {"dtype": 0, "shape": 1, "data_offsets": 2}
            content[index] = name, [v for _, v in sorted(value, key=lambda pair: order.get(pair[0], 9))]


def _move(chance: random.Random, content: _Object) -> None:
    entry = _entry(chance, content)
    for index, (name, value) in enumerate(entry or ()):
        if entry is not None and name == "data_offsets" and isinstance(value, list) and len(value) == 2:
            step = chance.choice((-8, -1, 1, 4, 8))
            moved = [v + step if type(v) is int and chance.random() < 0.8 else v for v in value]
            entry[index] = name, moved


def _metadata(chance: random.Random, content: _Object) -> None:
    odd = _Object([("a", chance.choice((1, None, "b", [], True)))])
    value = chance.choice((None, odd, odd, [], "a", 0, _Object([("", "")])))
    content[:] = [*[pair for pair in content if pair[0] != "__metadata__"], ("__metadata__", value)]


_CHANGES: tuple[Callable[[random.Random, _Object], None], ...] = (
    _change_field, _change_field, _drop_field, _add_field, _add_entry, _copy_entry, _as_sequence, _move, _metadata,
)  # fmt: skip


def _text(chance: random.Random, value: Any) -> str:
    if isinstance(value, _Object):
        inside = ",".join(f"{_key(chance, name)}:{_text(chance, item)}" for name, item in value)
        return "{" + inside + "}"
    if isinstance(value, list):
        return "[" + ",".join(_text(chance, item) for item in value) + "]"
    return json.dumps(value)


def _key(chance: random.Random, name: str) -> str:
    if name and chance.random() < 0.03:
        return f'"\\u{ord(name[0]):04x}{name[1:]}"'
    return json.dumps(name, ensure_ascii=chance.random() < 0.5)


def _spoil(chance: random.Random, text: str) -> str:
    kind = chance.randrange(4)
    if kind == 0:
        return chance.choice(_SPACE) + text + chance.choice(_SPACE)
    if kind == 1 and text:
        at = chance.randrange(len(text))
        return text[:at] + chance.choice('{}[]",:0-e\\ \n') + text[at + chance.randrange(2) :]
    if kind == 2:
        return text[: chance.randrange(len(text) + 1)]
    # A number or a word gives way to something odd.
    places = [at for at, letter in enumerate(text) if letter in "0123456789"]
    if not places:
        return text
    at = chance.choice(places)
    odd = f'"x":{chance.choice(_TEXTS)},' if text[at - 1 : at] == "{" else chance.choice(_TEXTS)
    return text[:at] + odd + text[at + 1 :]


def _spoil_bytes(chance: random.Random, raw: bytes) -> bytes:
    if not raw:
        return raw
    at = chance.randrange(len(raw))
    return raw[:at] + bytes([chance.randrange(256)]) + raw[at + 1 :]


def _ours(raw: bytes) -> dict[str, tuple[str, int]] | None:
    try:
        header = read_header(io.BytesIO(raw), len(raw), Path("generated.safetensors"))
    except HeaderError:
        return None
    return {name: (f"{entry.dtype}", entry.length) for name, entry in header.tensors.items()}


def _theirs(raw: bytes) -> dict[str, tuple[str, int]] | None:
    try:
        found = safetensors.deserialize(raw)
    except safetensors.SafetensorError:
        return None
    except ValueError as error:  # what it says of a header that is no UTF-8, in some versions
        return None if "utf" in str(error).lower() else {"error": (str(error), 0)}
    bytes_of = {"F4", "F6_E2M3", "F6_E3M2"}
    answer = {}
    for name, one in found:
        dtype = str(DTYPES.get(one["dtype"], "torch.uint8"))
        halved = one["dtype"] == "F4" and one["shape"] and one["shape"][-1] % 2 == 0
        answer[name] = ("torch.uint8" if one["dtype"] in bytes_of and not halved else dtype, len(one["data"]))
    return answer


if __name__ == "__main__":
    counts = run(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    sys.stdout.write(f"{counts}\n")
    for why, raw in counts.different:
        sys.stdout.write(f"{why}: {raw!r}\n")
    sys.exit(1 if counts.different else 0)
