"""Run inside the WebUI's own process, before its launch.py: a smaller card, and the extension's installer.

BENCH_CARD_GIB: what the driver says of memory is what a card of that size would say, and PyTorch's allocator
refuses what would not fit on it. The limit is set at the first question, not here: importing the WebUI decides when
CUDA is initialised. BENCH_INSTALLER: a path. Where nothing may be installed the WebUI's flags leave out all
installers; this one runs as the WebUI would run it, to its end, as a child.
"""

import os
import runpy
import subprocess
import sys
from pathlib import Path


def smaller(size):
    """A card of this many bytes."""
    import torch

    ask = torch.cuda.mem_get_info
    limited = False

    def mem_get_info(device=None):
        """Free and total bytes."""
        nonlocal limited
        free, total = ask(device)
        if not limited:
            limited = True
            torch.cuda.set_per_process_memory_fraction(min(1.0, size / total))
        return max(0, size - (total - free)), min(size, total)

    torch.cuda.mem_get_info = torch.cuda.memory.mem_get_info = mem_get_info


if "BENCH_CARD_GIB" in os.environ:
    smaller(int(float(os.environ["BENCH_CARD_GIB"]) * (1 << 30)))
if "BENCH_INSTALLER" in os.environ:
    path = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))  # noqa: PTH109
    subprocess.run(
        [sys.executable, os.environ["BENCH_INSTALLER"]], env={**os.environ, "PYTHONPATH": path}, check=True
    )
sys.path.insert(0, str(Path.cwd()))
sys.argv = ["launch.py", *sys.argv[1:]]
runpy.run_path("launch.py", run_name="__main__")
