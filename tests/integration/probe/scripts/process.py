"""Test extension: what this process holds."""

import gc
import threading
from pathlib import Path

from modules import script_callbacks


def on_app_started(_demo, app):
    @app.get("/probe/process")
    def process():
        gc.collect()
        status = Path("/proc/self/status").read_text()
        rss = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
        return {
            "descriptors": len(list(Path("/proc/self/fd").iterdir())),
            "threads": threading.active_count(),
            "anonymous_mb": int(rss.split()[1]) // 1024,
        }


script_callbacks.on_app_started(on_app_started)
