"""How background passes over files read in tests: not at all until they may."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from flux_speedup.weights.files.digest_pass import pieces
from tests.waiting import PATIENCE_S


class Held:
    """Goes on with `go_on`."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __call__(self, path: Path) -> Iterator[memoryview]:
        assert self.go_on.wait(PATIENCE_S)
        yield from pieces(path)
