"""Door 2: run by the WebUI as a subprocess at every start. Nothing needs installing."""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - an older Python must be able to say so
    sys.stderr.write("[flux-speedup] needs Python 3.10 or newer; it stays off\n")
