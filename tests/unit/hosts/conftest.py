"""What tests of several hosts share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.hosts.held import Held


@pytest.fixture
def held() -> Iterator[Held]:
    made = Held()
    yield made
    made.go_on.set()
