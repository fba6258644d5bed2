"""What this WebUI measured about itself: seconds by kind ("load", "move", "unload"), in order."""
import time

records = []

def record(kind, what, started):
    """`started` is the time.perf_counter() of its beginning."""
    records.append({"kind": kind, "what": what, "seconds": time.perf_counter() - started})
    del records[:-1000]
