"""The one way to change anything, for tab and API alike: each write is checked against the rules first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any, cast

from ..hosts.common.inside import Forbidden
from .acts import Acts
from .rules import Rules

NOBODY = "nobody knows where this was asked for"


class Control:
    """What tab and API are given."""

    def __init__(self, acts: Acts, rules: Rules) -> None:
        self._acts = acts
        self._rules = rules

    def by(self, headers: Mapping[str, str] | None) -> Acts:
        """The writes, for whoever sent a request with these headers; each raises `Forbidden`, a `Refused`."""
        return cast("Acts", _Checked(self._acts, partial(self._check, headers)))

    def may_read(self, headers: Mapping[str, str]) -> None:
        """Raises Forbidden."""
        self._rules.may_read(headers)

    def _check(self, headers: Mapping[str, str] | None) -> None:
        if headers is None:
            raise Forbidden(NOBODY)
        self._rules.may_write(headers)


class _Checked:
    """Whatever is called of the acts is checked before, what is added later too."""

    def __init__(self, acts: Acts, check: Callable[[], None]) -> None:
        self._acts = acts
        self._check = check

    def __getattr__(self, name: str) -> Any:
        act = getattr(self._acts, name)

        @wraps(act)
        def checked(*args: Any, **kwargs: Any) -> Any:
            self._check()
            return act(*args, **kwargs)

        return checked
