"""Command line flags of the memory manager, read before anything else is imported."""
import argparse
import os
import shlex
import sys

sys.argv += shlex.split(os.environ.pop("COMMANDLINE_ARGS", ""))
parser = argparse.ArgumentParser()
for flag in ("--always-high-vram", "--always-normal-vram", "--always-low-vram", "--always-no-vram",
             "--always-offload-from-vram", "--cuda-malloc", "--cuda-stream", "--pin-shared-memory"):
    parser.add_argument(flag, action="store_true")
args = parser.parse_known_args()[0]
dynamic_args = {"embedding_dir": None, "emphasis_name": "Original", "forge_unet_storage_dtype": None}
