"""The patch table: every change to the host, applied in one place, each undone exactly."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

from .change import AlreadySo, Change, ChangeError, Declined, Undo, apply, in_reverse
from .failures import ENOUGH, Failures
from .guard import reporting
from .import_hook import PostImportHook, is_ready

"""Failures of one kind, in the life of a process, after which an item is switched off."""
Later = Callable[[Callable[[], None]], None]
"""Does something as soon as it does no harm, on whatever thread."""


class State(str, Enum):
    """Where an item stands in this process."""

    PENDING = "pending"
    APPLIED = "applied"
    SKIPPED = "skipped"
    FAILED = "failed"
    UNDONE = "put back"


@dataclass(frozen=True)
class Outcome:
    """One line of "what is changed on this machine right now"."""

    item: str
    title: str
    state: State
    why: str


@dataclass
class _Made:
    """A change of an armed item: made when `undo` is there, waiting for its module otherwise."""

    change: Change
    undo: Undo | None = None
    declined: str = ""
    already: str = ""


@dataclass
class _Item:
    key: str
    title: str
    why: str
    state: State
    made: list[_Made] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def explain(self) -> str:
        declined = [made.declined for made in self.made if made.declined]
        reasons = [] if self.state is State.SKIPPED and declined else [self.why]
        already = dict.fromkeys(made.already for made in self.made if made.already)
        return "; ".join([*reasons, *declined, *already, *self.notes])


class PatchTable:
    """Items by key, each a group of changes that is applied and put back together. Thread safe.

    Ours that fails in a function of the host is counted: enough of a kind, and the item is put back (`later`:
    not under an image being made) and stays so until a restart.
    """

    def __init__(
        self, log: logging.Logger, later: Later | None = None, failures: Failures | None = None
    ) -> None:
        self._log = log
        self._later = later or (lambda act: act())
        self._failures = failures or Failures()
        self._given_up: dict[str, str] = {}
        self._lock = threading.RLock()
        self._items: dict[str, _Item] = {}
        self._hook = PostImportHook(self._imported)

    def add(self, key: str, title: str, why: str, changes: Iterable[Change]) -> None:
        """Arm an item: changes whose module is imported are made now, the others right after its import.

        A change that fails puts the whole item back: half a feature is none.
        """
        with self._lock:
            self._items[key] = _Item(key, title, why, State.PENDING)
            self.extend(key, changes)

    def extend(self, key: str, changes: Iterable[Change]) -> None:
        """Let more changes join an item that is in force or pending; they share its fate."""
        with self._lock:
            self._catch_up()
            item = self._items[key]
            if key in self._given_up:
                item.state, item.why = State.FAILED, self._given_up[key]
                return
            added = [_Made(change) for change in changes]
            item.made.extend(added)
            for made in added:
                if made.change.module is not None:
                    self._hook.watch(made.change.module)
            self._hook.install()
            self._make(item, added)

    def note(self, key: str, title: str, state: State, why: str) -> None:
        """Record an item that has no changes: skipped or failed, and why."""
        with self._lock:
            self._items[key] = _Item(key, title, why, state)

    def put_back(self, keys: Iterable[str] | None = None) -> tuple[str, ...]:
        """Undo the items named, or all, the newest change first. Answers with those that were in force."""
        undone = []
        with self._lock:
            wanted = list(self._items) if keys is None else [key for key in keys if key in self._items]
            for key in reversed(wanted):
                item = self._items[key]
                if item.state in (State.APPLIED, State.PENDING):
                    self._undo(item)
                    item.state = State.UNDONE
                    undone.append(key)
            if keys is None:
                self._hook.remove()
            return tuple(undone)

    def apply_again(self, keys: Iterable[str]) -> None:
        """Make those of the items named again that were put back, in the order they were added in."""
        with self._lock:
            wanted = set(keys)
            for key, item in self._items.items():
                if key not in wanted or item.state is not State.UNDONE:
                    continue
                item.state = State.PENDING
                for made in item.made:
                    made.declined = made.already = ""
                self._hook.install()
                self._make(item, item.made)

    def forget(self) -> None:
        """Drop what is not in force, nor waits to be: the next start adds what its configuration asks for."""
        with self._lock:
            live = (State.APPLIED, State.PENDING)
            self._items = {key: item for key, item in self._items.items() if item.state in live}

    def settle(self) -> None:
        """The WebUI has started: what still waits for a module that nobody imported is skipped."""
        with self._lock:
            self._catch_up()
            for item in self._items.values():
                if item.state is not State.PENDING:
                    continue
                missing = sorted({m.change.module for m in item.made if m.undo is None and m.change.module})
                self._fail(item, ChangeError(f"this WebUI has not imported {', '.join(missing)}"))

    def outcomes(self) -> tuple[Outcome, ...]:
        """All items in the order they were added."""
        with self._lock:
            return tuple(Outcome(i.key, i.title, i.state, i.explain()) for i in self._items.values())

    def applied(self) -> frozenset[str]:
        """Keys of the items in force."""
        return frozenset(o.item for o in self.outcomes() if o.state is State.APPLIED)

    def failed(self, key: str, function: str, error: Exception) -> bool:
        """Ours failed in a function of the host, which has its own way; whether that was once too often."""
        said = f"{type(error).__name__}: {error}"
        with self._lock:
            item = self._items[key]
            times = self._failures.add(key, function, error)
            if times < ENOUGH:
                note = f"failed in {function} and left it to the WebUI ({said})"
                if note not in item.notes:
                    item.notes.append(note)
                self._log.warning("%s: %s failed (%s); the WebUI's own runs", item.title, function, said)
                self._log.debug("%s: %s failed", item.title, function, exc_info=error)
                return False
            first = key not in self._given_up
            if first:
                why = f"{function} failed {times} times ({said}); the WebUI's own runs until a restart"
                self._given_up[key] = why
                self._log.warning("%s: switched off, %s", item.title, why)
        if first:
            self._later(partial(self._give_up, key))
        return True

    def _give_up(self, key: str) -> None:
        with self._lock:
            self.put_back([key])
            self._items[key].state, self._items[key].why = State.FAILED, self._given_up[key]

    def _catch_up(self) -> None:
        """What was half imported when it was asked for may be whole now: no import tells of that."""
        for item in self._items.values():
            waiting = [made for made in item.made if made.undo is None]
            if item.state is State.PENDING and waiting:
                self._make(item, waiting)

    def _imported(self, module: str) -> None:
        # A reload executes a module again and drops what we had set there, so the change is made anew.
        with self._lock:
            for item in list(self._items.values()):
                if item.state not in (State.APPLIED, State.PENDING):
                    continue
                again = [made for made in item.made if made.change.module == module]
                for made in again:
                    made.undo = None
                if again:
                    self._make(item, again, executed=module)

    def _make(self, item: _Item, changes: list[_Made], executed: str | None = None) -> None:
        for made in changes:
            module = made.change.module
            if module is not None and module != executed and not is_ready(module):
                continue
            try:
                with reporting(partial(self.failed, item.key)):
                    made.undo = apply(made.change)
            except AlreadySo as reason:
                made.undo = in_reverse([])
                made.already = str(reason)
            except Declined as reason:
                made.undo, made.declined = in_reverse([]), str(reason)
            except Exception as error:
                self._fail(item, error)
                return
        if all(made.undo is not None for made in item.made):
            declined = all(made.declined for made in item.made)
            item.state = State.SKIPPED if declined else State.APPLIED
        for declined_why in {made.declined for made in changes if made.declined}:
            skipped = "skipped, " if item.state is State.SKIPPED else ""
            self._log.info("%s: %s%s", item.title, skipped, declined_why)

    def _fail(self, item: _Item, error: Exception) -> None:
        self._undo(item)
        if isinstance(error, ChangeError):
            # Another WebUI, or another version of it: nothing is wrong, and nothing is changed.
            item.state, item.why = State.SKIPPED, str(error)
            self._log.info("%s: skipped, %s", item.title, error)
            return
        item.state, item.why = State.FAILED, f"{type(error).__name__}: {error}"
        self._log.warning("%s: failed (%s); the WebUI's own behaviour stays", item.title, item.why)

    def _undo(self, item: _Item) -> None:
        for made in reversed(item.made):
            undo, made.undo = made.undo, None
            if undo is None:
                continue
            try:
                undo()
            except Exception as error:
                item.notes.append(f"could not be put back: {error}")
                self._log.warning("%s: could not be put back (%s); restart the WebUI", item.title, error)
