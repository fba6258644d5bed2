"""Command line flags of the memory manager, read before anything else is imported."""
import argparse

parser = argparse.ArgumentParser()
for choices in (  # of each line at most one
    ("--unet-in-bf16", "--unet-in-fp16", "--unet-in-fp8-e4m3fn", "--unet-in-fp8-e5m2"),
    ("--always-gpu", "--always-high-vram", "--always-normal-vram", "--always-low-vram", "--always-no-vram",
     "--always-cpu"),
    ("--always-offload-from-vram",), ("--cuda-malloc",), ("--cuda-stream",), ("--pin-shared-memory",),
):
    group = parser.add_mutually_exclusive_group()
    for flag in choices:
        group.add_argument(flag, action="store_true")
args = parser.parse_known_args()[0]
dynamic_args = {"embedding_dir": "./embeddings", "emphasis_name": "original"}
