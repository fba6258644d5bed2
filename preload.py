"""Door 1 of a clone of the whole repository: hands over to the extension's own."""

import runpy
from pathlib import Path

preload = runpy.run_path(str(Path(__file__).resolve().parent / "extensions" / "flux-speedup" / "preload.py"))[
    "preload"
]
