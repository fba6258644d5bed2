"""Python's collector of cycles waits, and works again afterwards, whatever happens."""

from __future__ import annotations

import gc
from contextlib import suppress

import pytest

from flux_speedup.collector import paused


@pytest.mark.parametrize("was_on", [True, False])
def test_it_is_as_it_was_after_it(was_on: bool) -> None:
    before = gc.isenabled()
    try:
        gc.enable() if was_on else gc.disable()
        with suppress(ValueError), paused(), paused():
            assert not gc.isenabled()
            raise ValueError
        assert gc.isenabled() is was_on
    finally:
        gc.enable() if before else gc.disable()
