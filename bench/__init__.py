"""Programs that measure; `python -m bench` lists them. Compare figures of one run, never of two machines."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTENSION = ROOT / "extensions" / "flux-speedup"
RESULTS = ROOT / "docs" / "benchmarks"
# They run without an installation: the product that is measured is this checkout's.
sys.path.insert(0, str(EXTENSION))
