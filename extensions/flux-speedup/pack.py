"""Door 5: a command line that packs weight files ahead of time. For the WebUI's own Python."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    from flux_speedup.weights.packed.command import main

    try:
        sys.exit(main(sys.argv[1:], HERE))
    except KeyboardInterrupt:
        # sys.exit would wait for the threads; what is there is gone on with the next time.
        os._exit(130)
