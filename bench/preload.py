"""How long the WebUI waits for our preload, in fresh processes that have torch and gradio imported already.

Bar: 50 ms. Run: python bench/preload.py [RUNS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

DOOR = Path(__file__).resolve().parents[1] / "extensions" / "flux-speedup" / "preload.py"
ONE = """
import torch, gradio, argparse, importlib.util, sys, time
parser = argparse.ArgumentParser()
start = time.perf_counter()
spec = importlib.util.spec_from_file_location("preload.py", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.preload(parser)
print((time.perf_counter() - start) * 1000)
"""


def main() -> int:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    seen = []
    for _ in range(runs):
        done = subprocess.run(
            [sys.executable, "-c", ONE, str(DOOR)],
            capture_output=True,
            text=True,
            check=True,
            cwd=DOOR.parent,
        )
        seen.append(float(done.stdout.splitlines()[-1]))
    print(
        f"preload: median {statistics.median(seen):.1f} ms, {min(seen):.1f} to {max(seen):.1f}, {runs} processes"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
