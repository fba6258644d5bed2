"""Where the repository's parts are, for programs that run without an installation."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTENSION = ROOT / "extensions" / "flux-speedup"
RESULTS = ROOT / "docs" / "benchmarks"


def add_product() -> None:
    """From here on `flux_speedup` can be imported, and it is this repository's."""
    if str(EXTENSION) not in sys.path:
        sys.path.insert(0, str(EXTENSION))
