"""Door 2: run by the WebUI as a subprocess at every start. Nothing needs installing; it only says what is wrong."""

import sys

if sys.version_info < (3, 10):
    sys.stderr.write(
        "[flux-speedup] needs Python 3.10 or newer, this is %d.%d; it stays off\n" % sys.version_info[:2]
    )
