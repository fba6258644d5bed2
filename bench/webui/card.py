"""Run inside the WebUI's own process, before it: a card of BENCH_CARD_GIB GiB, then its launch.py.

What the driver says of memory is what a card of that size would say, and PyTorch's allocator refuses what would not
fit on it. The limit is set at the first question, not here: importing the WebUI decides when CUDA is initialised.
"""

import os
import runpy
import sys
from pathlib import Path

import torch

SIZE = int(float(os.environ["BENCH_CARD_GIB"]) * (1 << 30))
ask = torch.cuda.mem_get_info
limited = False


def mem_get_info(device=None):
    """Free and total bytes."""
    global limited
    free, total = ask(device)
    if not limited:
        limited = True
        torch.cuda.set_per_process_memory_fraction(min(1.0, SIZE / total))
    return max(0, SIZE - (total - free)), min(SIZE, total)


torch.cuda.mem_get_info = torch.cuda.memory.mem_get_info = mem_get_info
sys.path.insert(0, str(Path.cwd()))
sys.argv = ["launch.py", *sys.argv[1:]]
runpy.run_path("launch.py", run_name="__main__")
