"""Small steps on a thread of its own, only while nobody computes: they would stand in the way."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable

from ..files.step_back import step_back

QUIET_S = 4.0
_POLL_S = 1.0
_WATCH_S = 2.0
_log = logging.getLogger("flux_speedup")


def nobody() -> bool:
    """Nobody is busy."""
    return False


class WhileIdle:
    """The steps that wait, and the thread, which lives while there is a reason for it. Safe from any thread."""

    def __init__(
        self, busy: Callable[[], bool], watch: Callable[[], bool] = nobody, quiet_s: float = QUIET_S
    ) -> None:
        """`busy` must have answered no for `quiet_s` seconds before a step. `watch`: called every few seconds,
        busy or not, for as long as it answers that there is something to watch.
        """
        self._busy = busy
        self._watch = watch
        self._quiet_s = quiet_s
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._steps: dict[Hashable, Callable[[], bool]] = {}
        self._at_once: set[Hashable] = set()
        self._thread: threading.Thread | None = None
        self._stirred = time.monotonic()

    def stir(self) -> None:
        """Somebody has just done something: the quiet begins anew."""
        self._stirred = time.monotonic()

    def add(self, name: Hashable, step: Callable[[], bool], *, at_once: bool = False) -> None:
        """`step` is called again and again, while it is quiet, until it answers that nothing is left to do.

        `at_once`: while nobody is busy, however long that is, until somebody was.
        """
        with self._lock:
            self._steps.setdefault(name, step)
            if at_once:
                self._at_once.add(name)
            if self._thread is None:
                self._start()
        self._changed.set()

    def watch(self) -> None:
        """There is something to watch from now on, whether anything waits or not."""
        with self._lock:
            if self._thread is None:
                self._start()

    def clear(self) -> None:
        """What waits is forgotten."""
        with self._lock:
            self._steps.clear()
            self._at_once.clear()

    def wait(self, timeout: float) -> bool:
        """Whether nothing waited any more within `timeout` seconds; for tests and benchmarks."""
        end = time.monotonic() + timeout
        while self._steps and time.monotonic() < end:
            time.sleep(0.01)
        return not self._steps

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="flux-speedup-idle", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads here: it is not worth a load
            self._steps.clear()
            _log.info("nothing is prepared while the WebUI is idle (%s)", error)
        else:
            self._thread = thread

    def _work(self) -> None:
        step_back()
        watching = True
        while True:
            with self._lock:
                if not self._steps and not watching:
                    self._thread = None
                    return
                poll = min(_POLL_S, self._quiet_s) if self._steps else _WATCH_S
            try:
                quiet = bool(self._steps) and self.is_quiet()
                if quiet or self._first_is_at_once():
                    self._step()
                    watching = True  # what it did may want it
                    continue
                watching = self._watch()
            except Exception as error:  # a courtesy in the background: it must not be able to stop anything
                self.clear()
                watching = False
                _log.info("nothing more is prepared while the WebUI is idle (%s)", error)
            self._changed.wait(poll)
            self._changed.clear()

    def is_quiet(self) -> bool:
        """Whether nobody is busy, and was for a while."""
        if self._busy():
            self._at_once.clear()
            self.stir()
        return time.monotonic() - self._stirred >= self._quiet_s

    def _first_is_at_once(self) -> bool:
        with self._lock:
            return next(iter(self._steps), None) in self._at_once

    def _step(self) -> None:
        with self._lock:
            name, step = next(iter(self._steps.items()), (None, nobody))
        if step():
            with self._lock:
                if self._steps.get(name) is step:  # else it was added anew since
                    del self._steps[name]
                    self._at_once.discard(name)
