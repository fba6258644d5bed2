"""Seconds by stage of the start."""
import contextlib
import time

class Timer:
    def __init__(self, print_log=False):
        self.start, self.records, self.total, self.base_category = time.time(), {}, 0, ""

    def record(self, category, extra_time=0, disable_log=False):
        """Books the time since the last record under `category`."""
        now, name = time.time(), self.base_category + category
        seconds, self.start = now - self.start + extra_time, now
        self.records[name] = self.records.get(name, 0) + seconds
        self.total += seconds

    @contextlib.contextmanager
    def subcategory(self, name):
        before, base, self.base_category = self.total, self.base_category, f"{self.base_category}{name}/"
        yield
        self.base_category = base
        self.records[base + name] = self.total - before

    def summary(self): return f"{self.total:.1f}s"

    def dump(self): return {"total": self.total, "records": self.records}

    def reset(self): self.__init__()

startup_timer = Timer()
