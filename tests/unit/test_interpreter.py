"""The interpreter's lock is handed over oftener while something wants it so, and as before afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from flux_speedup.interpreter import OFTEN_S, handed_over_often


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


def test_inside_each_other_the_last_one_out_puts_it_back() -> None:
    before = sys.getswitchinterval()
    with handed_over_often():
        with pytest.raises(KeyError), handed_over_often():
            raise KeyError
        assert sys.getswitchinterval() == pytest.approx(OFTEN_S, rel=0.03)
    assert sys.getswitchinterval() == pytest.approx(before)


@pytest.mark.parametrize("theirs", [OFTEN_S / 2, 0.02])
def test_what_somebody_else_has_set_stays(theirs: float) -> None:
    sys.setswitchinterval(theirs)
    with handed_over_often():
        assert sys.getswitchinterval() <= OFTEN_S * 1.01
    assert sys.getswitchinterval() == pytest.approx(theirs, rel=0.03)  # microseconds, cut off
    sys.setswitchinterval(0.005)
    with handed_over_often():
        sys.setswitchinterval(0.02)
    assert sys.getswitchinterval() == pytest.approx(0.02)
