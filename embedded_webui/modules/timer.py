"""Seconds by stage of the start."""
import time

class Timer:
    def __init__(self, print_log=False): self.start, self.records, self.total = time.time(), {}, 0

    def record(self, category, extra_time=0, disable_log=False):
        """Books the time since the last record under `category`."""
        now = time.time()
        seconds, self.start = now - self.start + extra_time, now
        self.records[category] = self.records.get(category, 0) + seconds
        self.total += seconds

startup_timer = Timer()
