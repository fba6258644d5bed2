"""Door 3 of a clone of the whole repository: hands over to the extension's own."""

import runpy
from pathlib import Path

runpy.run_path(
    str(
        Path(__file__).resolve().parent.parent / "extensions" / "flux-speedup" / "scripts" / "flux_speedup.py"
    )
)
