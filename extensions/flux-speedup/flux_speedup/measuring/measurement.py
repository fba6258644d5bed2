"""A measurement of this machine, on a thread of its own: its progress, its end, its cancelling."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from ..stats.machine import Machine, Measuring

log = logging.getLogger("flux_speedup")


class Cancelled(Exception):
    """Somebody cancelled; the message says why."""


class Failed(Exception):
    """Nothing could be measured; the message says why."""


class Step(Protocol):
    """One thing to measure: gets what is known so far and a check, and answers what is known then."""

    def __call__(self, known: Machine, check: Callable[[float], None]) -> Machine: ...


class Measurement:
    """At most one at a time. Safe from any thread; `done` is told of what was measured, on its thread."""

    def __init__(self, done: Callable[[Machine], None], interrupted: Callable[[], bool]) -> None:
        """`interrupted`: asked between two chunks, whether somebody else needs the machine."""
        self._done = done
        self._interrupted = interrupted
        self._lock = threading.Lock()
        self._now = Measuring("idle")
        self._cancel: str | None = None
        self._thread: threading.Thread | None = None

    def begin(self, known: Machine, steps: list[tuple[str, Step]]) -> Measuring:
        """Begin with the steps (what people call it, what it does), unless one runs."""
        with self._lock:
            if self._now.state == "running":
                return self._now
            self._now, self._cancel = Measuring("running", 0.0, steps[0][0] if steps else ""), None
            self._thread = threading.Thread(
                target=self._work, args=(known, steps), name="flux-speedup-measuring", daemon=True
            )
            self._thread.start()
            return self._now

    def now(self) -> Measuring:
        """How far it is."""
        return self._now

    def cancel(self, why: str) -> Measuring:
        """End it before its next chunk, if one runs."""
        with self._lock:
            if self._now.state == "running":
                self._cancel = why
        return self._now

    def wait(self, timeout: float) -> bool:
        """Whether it ended within `timeout` seconds."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
        return thread is None or not thread.is_alive()

    def _work(self, known: Machine, steps: list[tuple[str, Step]]) -> None:
        with self._ending():
            failed: list[str] = []
            for number, (name, step) in enumerate(steps):
                self._check(name, number, len(steps), 0.0)

                def check(share: float, name: str = name, number: int = number) -> None:
                    self._check(name, number, len(steps), share)

                try:
                    known = step(known, check)
                except Cancelled:
                    raise
                except Exception as error:  # one figure less; the others count
                    failed.append(f"{name}: {type(error).__name__}: {error}")
                    log.warning("measuring this machine: %s", failed[-1])
            if len(failed) == len(steps):
                raise Failed("; ".join(failed))
            self._done(known)
            self._now = replace(self._now, why="; ".join(failed))

    def _check(self, name: str, number: int, count: int, share: float) -> None:
        if self._cancel is not None:
            raise Cancelled(self._cancel)
        if self._interrupted():
            raise Cancelled("an image was asked for")
        self._now = Measuring("running", (number + min(1.0, max(0.0, share))) / count, name)

    @contextmanager
    def _ending(self) -> Iterator[None]:
        try:
            yield
        except Cancelled as why:
            end = replace(self._now, state="cancelled", doing="", why=str(why))
            log.info("measuring this machine: cancelled (%s)", why)
        except Failed as why:
            end = replace(self._now, state="failed", doing="", why=str(why))
        except Exception as error:
            end = replace(self._now, state="failed", doing="", why=f"{type(error).__name__}: {error}")
            log.warning("measuring this machine: failed (%s)", end.why)
        else:
            end = Measuring("done", 1.0, "", self._now.why)
        with self._lock:
            self._now = end
