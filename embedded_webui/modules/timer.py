"""Seconds by stage of the start."""
import time

class Timer:
    def __init__(self, print_log=False): self.start, self.records, self.total = time.time(), {}, 0

    def record(self, category, extra_time=0, disable_log=False):
        """Books the time since the last record under `category`."""
        seconds, self.start = time.time() - self.start + extra_time, time.time()
        self.records[category] = self.records.get(category, 0) + seconds
        self.total += seconds

startup_timer = Timer()
