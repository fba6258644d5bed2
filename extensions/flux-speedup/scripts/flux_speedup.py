"""Door 3: executed with the WebUI's scripts, at start and at every "Reload UI"; registers the callbacks."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent

sys.path.insert(0, str(HERE))
try:
    from flux_speedup import app
finally:
    sys.path.remove(str(HERE))

app.register(HERE)
