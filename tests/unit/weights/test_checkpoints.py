"""Which models are kept, and for how long."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_speedup.weights.checkpoints import Checkpoints, Key, Limits


class Model:
    """Stands for a built model."""


def key(name: str) -> Key:
    return Key.of((), [("name", name)])


def names(kept: Checkpoints[Model]) -> list[str]:
    return [each.key.settings[0][1] for each in kept.entries()]


def test_the_longest_unused_one_goes_first() -> None:
    kept: Checkpoints[Model] = Checkpoints(Limits(2, 100))
    a, b, c = Model(), Model(), Model()
    assert kept.put(key("a"), a, 1) == []
    assert kept.put(key("b"), b, 1) == []
    assert kept.take(key("a")) is a
    assert kept.put(key("a"), a, 1) == []
    assert [gone.model for gone in kept.put(key("c"), c, 1)] == [b]
    assert names(kept) == ["a", "c"]
    assert kept.take(key("b")) is None


def test_ram_counts_and_a_model_that_never_fits_is_not_kept() -> None:
    kept: Checkpoints[Model] = Checkpoints(Limits(9, 10))
    for name in "abc":
        kept.put(key(name), Model(), 4)
    assert (names(kept), kept.ram) == (["b", "c"], 8)
    big = Model()
    assert [gone.model for gone in kept.put(key("d"), big, 11)] == [big]
    assert names(kept) == ["b", "c"]
    assert len(kept.put(key("e"), Model(), 10)) == 2
    assert names(kept) == ["e"]


def test_what_is_taken_is_no_longer_kept_and_the_same_key_is_kept_once() -> None:
    kept: Checkpoints[Model] = Checkpoints(Limits(2, 10))
    a, again = Model(), Model()
    kept.put(key("a"), a, 1)
    assert [gone.model for gone in kept.put(key("a"), again, 1)] == [a]
    assert kept.take(key("a")) is again
    assert kept.take(key("a")) is None
    assert kept.drop(again) is False
    kept.put(key("a"), a, 1)
    assert kept.drop(a) is True
    kept.put(key("a"), a, 1)
    assert [gone.model for gone in kept.clear()] == [a]
    assert kept.entries() == []


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 12), st.booleans()), max_size=40),
    st.integers(1, 4),
    st.integers(0, 20),
)
def test_limits_hold_whatever_happens(steps: list[tuple[str, int, bool]], count: int, ram: int) -> None:
    kept: Checkpoints[Model] = Checkpoints(Limits(count, ram))
    for name, size, take in steps:
        if take:
            kept.take(key(name))
        else:
            new = Model()
            gone = kept.put(key(name), new, size)
            assert (new in [each.model for each in gone]) is (size > ram)
            assert size > ram or kept.entries()[-1].model is new
        assert len(kept.entries()) <= count
        assert kept.ram == sum(each.ram for each in kept.entries()) <= ram
        assert len(set(names(kept))) == len(names(kept))


def _touch(path: Path) -> None:
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))


def _grow(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"longer")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(path: Path) -> None:
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [_touch, _grow, _replace, Path.unlink])
def test_a_file_that_changed_is_another_key_and_drops_what_was_built_from_it(tmp_path: Path, change) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"one")
    two.write_bytes(b"two")
    kept: Checkpoints[Model] = Checkpoints(Limits(4, 10))
    old, other = Key.of([one, two], []), Key.of([two], [])
    model = Model()
    kept.put(old, model, 1)
    kept.put(other, Model(), 1)
    assert kept.drop_changed() == []
    change(one)
    assert Key.of([one, two], []) != old
    assert not old.is_current()
    assert [gone.model for gone in kept.drop_changed()] == [model]
    assert [each.key for each in kept.entries()] == [other]


def test_a_file_that_appears_counts_too_and_a_name_that_is_none_is_no_error(tmp_path: Path) -> None:
    found = Key.of([tmp_path / "model.yaml", "no\0name"], [])
    assert found.is_current()
    (tmp_path / "model.yaml").touch()
    assert not found.is_current()


def test_settings_are_part_of_the_key_by_name_and_value() -> None:
    assert Key.of((), [("a", 1)]) == Key.of((), [("a", "1")])
    assert len({Key.of((), [("a", 1)]), Key.of((), [("a", 2)]), Key.of((), [("b", 1)])}) == 3
