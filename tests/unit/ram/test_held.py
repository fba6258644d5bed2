"""The ledger: what several hold together never passes the share, and comes back from wherever it dies."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_speedup import ram
from flux_speedup.ram import PLENTY, Free, Held, Hold, Rule
from flux_speedup.ram.free import read
from tests.unit.ram.trees import Tree, v1, v2

TOTAL = 1000


def held_on(total: int, others: int = 0) -> Held:
    """The ledger of a machine of which others use some; the kernel takes file pages for ones that could go."""
    made = Held(lambda files: Free(max(0, total - others - (made.bytes - made.file_bytes) - files), total))
    return made


def test_half_of_what_there_would_be_without_us_together() -> None:
    held = held_on(TOTAL, others=200)
    assert held.room() == 400
    first = held.take(300, of_file=True)
    assert first is not None
    assert (held.room(), held.bytes, held.file_bytes) == (100, 300, 300)
    assert held.take(101) is None
    second = held.take(100)
    assert second is not None
    assert (held.room(), held.bytes, held.file_bytes) == (0, 400, 300)
    first.release()
    first.release()
    assert (held.room(), held.bytes, held.file_bytes) == (300, 100, 0)
    second.release()
    assert held.room(Rule(0.25)) == 200


GB = 10**9
TEXT, FLUX, FP8 = 10 * GB, 24 * GB, 12 * GB


@pytest.mark.parametrize(
    ("total", "others", "files", "held"),
    [
        (32, 5, [TEXT, FLUX, FP8 // 2], [FP8 // 2]),
        (64, 7, [TEXT, FLUX, FLUX], [TEXT]),
        (96, 8, [TEXT, FLUX, FLUX], [TEXT, FLUX]),
        (128, 8, [TEXT, FLUX, FLUX, FLUX], [TEXT, FLUX, FLUX]),
        (128, 60, [TEXT, FLUX, FLUX], [TEXT]),
    ],
)
def test_where_ram_is_plenty_files_are_held_and_twice_the_last_one_stays_free(
    total: int, others: int, files: list[int], held: list[int]
) -> None:
    made = held_on(total * GB, others * GB)
    taken = [size for size in files if made.take(size, PLENTY, of_file=True) is not None]
    assert taken == held
    free = made.free()
    assert free is not None
    assert free.available >= max(sum(held), 2 * held[-1])


def test_where_ram_is_plenty_the_edges_are_exact() -> None:
    made = held_on(TOTAL)
    assert (made.room(PLENTY), made.room()) == (333, 500)
    assert made.take(334, PLENTY) is None
    assert made.take(333, PLENTY) is not None
    assert made.room(PLENTY) == 167  # half of the RAM in all
    assert made.take(168, PLENTY) is None
    assert Held(lambda _: None).take(1, PLENTY) is None


def test_what_gives_way_does_so_only_where_somebody_has_no_room_but_for_it() -> None:
    made, asked = held_on(TOTAL), list[int]()
    small = [made.take(size, PLENTY) for size in (100, 150, 200)]
    for number, hold in enumerate(small):
        assert hold is not None
        hold.gives_way = [partial(asked.append, 0), hold.release, hold.release][number]  # the first is in use
    assert made.room() == 500
    assert made.take(500) is None  # more than could be had
    assert (asked, made.bytes) == ([0], 0 + 100)
    asked.clear()
    assert made.take(401) is None
    assert made.take(400) is not None
    assert made.take(1, PLENTY) is None  # nothing gives way to its like


def test_what_gives_way_stays_where_there_is_room() -> None:
    made = held_on(TOTAL)
    hold = made.take(100, PLENTY)
    assert hold is not None
    hold.gives_way = hold.release
    assert made.take(400) is not None
    assert made.bytes == 500
    assert made.take(501) is None  # there would not be with it gone: it stays
    assert made.bytes == 500
    assert made.take(50) is not None
    assert made.bytes == 450


def test_what_is_held_in_any_case_takes_the_others_room() -> None:
    held = held_on(TOTAL)
    assert held.note(600).size == 600
    assert held.room() == 0
    assert held.take(1) is None
    assert held.take(0) is not None


def test_where_nobody_can_say_nothing_is_taken() -> None:
    held = Held(lambda _: None)
    assert (held.room(), held.take(1), held.free()) == (0, None, None)


GIB = 1 << 30


@pytest.mark.parametrize(
    ("version", "limit", "used", "files", "room"),
    [
        (2, 16 * GIB, 14 * GIB, 0, 1 * GIB),
        (2, 16 * GIB, 14 * GIB, 8 * GIB, 5 * GIB),  # what the page cache has of it goes when asked
        (1, 64 * GIB, 10 * GIB, 0, 27 * GIB),
    ],
)
def test_in_a_container_on_a_large_machine_half_of_its_own_rest(
    tmp_path: Path, version: int, limit: int, used: int, files: int, room: int
) -> None:
    tree = Tree(tmp_path, total=512 * GIB, available=340 * GIB)
    tree.is_in("4:memory:/box" if version == 1 else "0::/box")
    (v1 if version == 1 else v2)(tree.mount(version) / "box", limit, used, files)
    held = Held(lambda files: read(files, tree.proc))
    assert held.room() == room
    registered = held.take(room, of_file=True)
    assert registered is not None
    assert held.take(1) is None


@given(st.lists(st.tuples(st.integers(0, 600), st.booleans(), st.sampled_from([0.25, 0.5])), max_size=12))
def test_the_share_holds_whatever_is_asked_for(asked: list[tuple[int, bool, float]]) -> None:
    held = held_on(TOTAL, others=100)
    for size, of_file, share in asked:
        before = held.bytes
        if held.take(size, Rule(share), of_file=of_file) is not None:
            assert held.bytes == before + size <= int(900 * share) or size == 0
    assert held.bytes <= 450


def test_threads_that_take_at_once_never_take_more_than_there_is() -> None:
    held, ready, taken = held_on(TOTAL), threading.Barrier(8), list[Hold | None]()

    def work() -> None:
        ready.wait()
        taken.extend(held.take(100) for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([hold for hold in taken if hold is not None]) == 5
    assert held.bytes == 500


def test_what_is_released_while_somebody_takes_waits_for_no_lock() -> None:
    held = held_on(TOTAL)
    hold = held.note(10)
    with held._taking:
        hold.release()
    assert held.bytes == 0


def test_the_answers_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ram.available() > 0
    assert ram.available_and_total()[1] is not None
    monkeypatch.setattr(ram.HELD, "_read", lambda files: Free(1000 - files, 2000))
    hold = ram.HELD.note(300, of_file=True)
    others = ram.HELD.file_bytes - 300
    assert ram.available() == 700 - others
    hold.release()
    monkeypatch.setattr(ram.HELD, "_read", lambda files: None)
    assert ram.available() == 0
    assert ram.available_and_total() == (None, None)
