"""Door 4: a command line that fetches the small weights ahead of time. Any Python from 3.10 on, no WebUI."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

if __name__ == "__main__":
    if sys.version_info < (3, 10):  # noqa: UP036 - an older Python must be able to say so
        sys.exit("fetch.py needs Python 3.10 or newer")
    sys.path.insert(0, str(HERE))
    from flux_speedup.local_models.fetch import main

    try:
        sys.exit(main(sys.argv[1:], HERE))
    except KeyboardInterrupt:
        # sys.exit would wait for the threads.
        os._exit(130)
