"""`python -m bench NAME ...`: the one front."""

from __future__ import annotations

import importlib
import sys

BENCHES = {
    "webui": ("bench.webui.command", "a whole WebUI over its API, without and with the extension"),
}


def main(words: list[str]) -> int:
    if not words or words[0] not in BENCHES:
        print("python -m bench NAME ..., and --help after a name tells its options\n")
        for name, (_, what) in BENCHES.items():
            print(f"  {name:16} {what}")
        return 0 if words[:1] in ([], ["--help"], ["-h"]) else 2
    status: int = importlib.import_module(BENCHES[words[0]][0]).main(words[1:])
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
