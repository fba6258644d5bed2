"""Where the repository's parts are, for programs that run as plain scripts, without an installation."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent.parent
ROOT = BENCH.parent


def add_product() -> None:
    """From here on `flux_speedup` can be imported, and it is this repository's."""
    folder = str(ROOT / "extensions" / "flux-speedup")
    if folder not in sys.path:
        sys.path.insert(0, folder)


def module_at(path: Path) -> Any:
    """The file as a module, although its folder is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
