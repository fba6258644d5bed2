"""Door 1: the WebUI calls preload(parser) before it parses its flags and before any model exists."""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def preload(parser: argparse.ArgumentParser) -> None:
    sys.path.insert(0, str(HERE))
    try:
        from flux_speedup import app
    finally:
        sys.path.remove(str(HERE))
    app.preload(parser, HERE)
