"""What stands around every replaced function of the host: where ours fails, the host's own counts.

Three outcomes of a failure in ours, told apart by what became of the host's function in the same call:
it did not run yet: it runs now, with the same arguments; it has answered: its answer stands; it raised: that
goes on as it is. So the host's function never runs twice, and none of its errors is hidden.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

Report = Callable[[str, Exception], bool]
"""(function, what ours raised) -> whether ours is not to be called any more."""

_NOT_RUN = object()
_RAISED = object()


def meant(error: Exception) -> Exception:
    """Mark an exception as our answer to whoever called the host's function: no guard takes it for a failure."""
    error.meant_for_the_caller = True  # type: ignore[attr-defined]
    return error


@dataclass
class _Call:
    """One call of ours; `host`: what the host's function came to in it."""

    host: Any = _NOT_RUN


class Guarded:
    """Calls `make(original)`, and `original` alone where that fails. One for each replaced function."""

    def __init__(
        self,
        name: str,
        original: Callable[..., Any],
        make: Callable[[Callable[..., Any]], Callable[..., Any]],
        report: Report,
    ) -> None:
        self._name = name
        self._original = original
        self._report = report
        self._off = False
        self._thread = threading.local()
        self.ours = make(self._noting(original))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._off:
            return self._original(*args, **kwargs)
        call = _Call()
        calls: list[_Call] = self._thread.__dict__.setdefault("calls", [])
        calls.append(call)
        try:
            return self.ours(*args, **kwargs)
        except Exception as error:
            if call.host is _RAISED or getattr(error, "meant_for_the_caller", False):
                raise
            self._off = self._report(self._name, error) or self._off
        finally:
            calls.pop()
        # Out of the handler: what the failure held (tensors in its frames) is free before the host runs.
        return self._original(*args, **kwargs) if call.host is _NOT_RUN else call.host

    def _noting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def noted(*args: Any, **kwargs: Any) -> Any:
            calls: list[_Call] = self._thread.__dict__.get("calls") or [_Call()]
            call = calls[-1]
            call.host = _RAISED  # until it has answered
            call.host = original(*args, **kwargs)
            return call.host

        return noted


_report: ContextVar[Report | None] = ContextVar("flux_speedup_report", default=None)


@contextlib.contextmanager
def reporting(report: Report) -> Iterator[None]:
    """Failures of what is replaced in here go to `report`, whenever they happen."""
    before = _report.set(report)
    try:
        yield
    finally:
        _report.reset(before)


def reporter() -> Report:
    """Where failures of what is replaced right now are to go."""
    return _report.get() or _nobody


def _nobody(_function: str, _error: Exception) -> bool:
    return False
