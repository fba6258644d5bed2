"""Door 2: run by the WebUI as a subprocess at every start. Nothing needs installing."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

if sys.version_info < (3, 10):  # noqa: UP036 - an older Python must be able to say so
    sys.stderr.write("[flux-speedup] needs Python 3.10 or newer; it stays off\n")
else:
    sys.path.insert(0, str(HERE))
    from flux_speedup import at_install

    try:
        at_install.main(HERE, sys.argv, os.environ)
    except Exception as error:
        sys.stderr.write(f"[flux-speedup] no weights are fetched ({error}); the WebUI starts without them\n")
