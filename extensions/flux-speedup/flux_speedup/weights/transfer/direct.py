"""Files that the GPU reads straight from the page cache: a second, read-only mapping, registered with CUDA.

Pages that are registered cannot be evicted, by nobody and for nothing: what is held of a file takes its size of RAM
until it is released. So there is a limit, and a file is held only while its ordinary mapping lives.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from ...ram import HALF, HELD, NOTHING, Held, Rule
from ...stats.report import size
from ..files.beforehand import Beforehand
from ..files.mapping import MAPPINGS, FileIdentity, Mapping, Registry, Standing
from ..files.pagecache import is_warm
from ..files.span import Span
from .held_files import HeldFile, HeldFiles
from .held_memory import HeldMemory
from .idle import QUIET_S, WhileIdle, nobody
from .item import Item
from .lending import Lending
from .lending import Straight as Straight
from .registration import CUDA, Registered, Registrar, map_shared
from .settling import copies_done

KINDS = frozenset({"cuda"} if sys.platform == "linux" and torch.version.hip is None else ())
"""Of devices that read registered pages of files, on this system."""
_log = logging.getLogger("flux_speedup")


class Owner(Protocol):
    """Whose weights are in RAM."""

    def homes(self, names: Collection[str] | None) -> Iterable[torch.Tensor]:
        """Memory that they (or those of `names`) come from."""
        ...


class Direct(Lending):
    """Registered files by identity, and memory of weights that are in none. Safe from any thread; a load never
    waits for a registration.

    What is held is kept: no file is let go for another one, only for want of RAM, and then for good. So two
    models that take turns do not push each other out. `let_go` counts files that their users have to leave
    (written over, or everything released): whenever it has grown, ask for `pieces` anew. `come` counts what came
    in the background.
    """

    def __init__(
        self,
        registry: Registry = MAPPINGS,
        *,
        registrar: Registrar = CUDA,
        held: Held = HELD,
        kinds: frozenset[str] = KINDS,
        rule: Rule = HALF,
        busy: Callable[[], bool] = nobody,
        warm: Callable[[Path], bool] = is_warm,
        quiet_s: float = QUIET_S,
        settle: Callable[[], None] = copies_done,
        memory: HeldMemory | None = None,
    ) -> None:
        """`rule`: of the ledger `held`, for files that loads read; by NOTHING none is held for them.

        `kinds`: of devices that read what is registered. `busy`: whether somebody computes; in the background
        files are registered only while nobody does, and only ones that are `warm`: reading them in would take as
        long as the disk does. `settle` returns once every copy that was queued before is done. `memory`: with the
        same ledger.
        """
        super().__init__(HeldFiles(registry.of, self._end if busy is not nobody else None), registrar)
        self.rule = rule
        self._registry = registry
        self._ledger = held
        self._kinds = kinds
        self._warm = warm
        self._ended: deque[Registered] = deque()  # whose files nobody views, once nobody computes
        self._beforehand = Beforehand(registry)
        self._failed: set[FileIdentity] = set()
        self._mixed: set[FileIdentity] = set()
        self._changing = threading.Lock()  # one registration at a time
        self._idle = WhileIdle(busy, self.relieve, quiet_s)
        self._settle = settle
        self._memory = memory or HeldMemory(held=held)
        self.let_go = self.come = 0
        self._since = object()  # another one whenever everything is released
        registry.writers.tell(self._written_over)

    @property
    def bytes(self) -> int:
        """Bytes that are registered now."""
        return sum(held.memory.registered for held in self._files.all()) + self._memory.bytes

    @contextlib.contextmanager
    def lend(self, items: Sequence[Item], first: int = 0) -> Iterator[Straight]:
        with super().lend(items, first) as straight, self._memory.lend(items, first) as own:
            straight |= own
            yield straight

    def serves(self, device: torch.device) -> bool:
        """Whether devices of its kind read what is registered."""
        return device.type in self._kinds

    def hold(self, mapping: Mapping, rule: Rule | None = None, parts: Iterable[Span] | None = None) -> bool:
        """Whether it is registered now: so much of the file cannot be evicted until it is released.

        `rule`: in place of the one for loads. `parts`: what of the file; all of it without. False, and nothing
        changed, where there is no room or the system cannot; a file that failed is not tried again.
        """
        rule, numbers = rule or self.rule, self._numbers(mapping, parts)
        self._begun(mapping.identity, rule)
        missing = deque(numbers)
        while missing and not self._advance(mapping, missing, rule):
            pass
        held = self._files.begun(mapping.identity)
        if held is not None:
            self._idle.watch()
        return held is not None and held.memory.has(numbers)

    def hold_soon(
        self,
        identities: Iterable[FileIdentity],
        device: torch.device,
        rule: Rule | None = None,
        parts: Sequence[Span] | None = None,
    ) -> None:
        """`hold` in the background, as soon as nobody computes, where the device is of a kind that can."""
        self._idle.stir()
        self._beforehand.end()
        self._soon(identities, device, rule, parts)

    def hold_memory_soon(self, owner: Owner, names: Collection[str] | None, device: torch.device) -> None:
        """The same for weights that come from RAM; `owner` is held weakly."""
        if self.serves(device) and self.rule != NOTHING:
            weakly, some = weakref.ref(owner), None if names is None else frozenset(names)
            self._idle.add(weakly, partial(self._step_of_memory, weakly, some, device, self._since))

    def prepare(self, paths: Sequence[Path], device: torch.device, still: Callable[[], bool]) -> None:
        """The same before the first load, for files that are `warm`: each is mapped until that has come.

        `still`: whether it will read these; asked in the background.
        """
        if self.serves(device) and self.rule != NOTHING:
            kept = self._beforehand.keep(filter(self._warm, paths), still)
            self._soon(kept, device, None, None, at_once=True)
            self._idle.watch()

    def _soon(
        self,
        identities: Iterable[FileIdentity],
        device: torch.device,
        rule: Rule | None,
        parts: Sequence[Span] | None,
        *,
        at_once: bool = False,
    ) -> None:
        if not self.serves(device) or (rule or self.rule) == NOTHING:
            return
        for one in identities:
            mapping, held = self._registry.of(one), self._begun(one, rule or self.rule)
            if mapping is None or one in self._failed:
                continue
            numbers = self._numbers(mapping, parts)
            if held is None or not held.memory.has(numbers):
                step = partial(self._step, one, device, deque(numbers), rule, self._since)
                self._idle.add((one, numbers), step, at_once=at_once)

    def has_mixed(self, identity: FileIdentity) -> bool:
        """Whether devices could read pages of this file while somebody wrote there who had not waited."""
        return identity in self._mixed

    def relieve(self) -> bool:
        """Let weights and files go while RAM is short, what was used longest ago first; whether to look again."""
        kept = self._beforehand.look()
        quiet = self._idle.is_quiet()
        if self._ended and (quiet or self._ledger.is_short()):
            self._let_ended_go()
        kept |= self._memory.relieve(quiet=quiet)
        with self._changing:
            while self._ledger.is_short() and (gone := self._files.let_oldest_go()) is not None:
                self._failed.add(gone.identity)
                _log.info("RAM is short: %s of a weight file are not held any longer", size(gone.memory.size))
            return kept or bool(self._files or self._ended)

    def release_all(self) -> None:
        """Every page can be evicted again; what a load uses right now, once it ends."""
        self._since = object()
        self._idle.clear()
        self._beforehand.end()
        self._beforehand.look()
        self._let_ended_go()
        self._memory.release_all()
        with self._changing:
            for held in self._files.all():
                self._files.let_go(held)
            self.let_go += 1

    def _end(self, held: HeldFile) -> None:
        # A finalizer's: it takes no lock. A model is dropped in a request, and this takes tenths of a second.
        for each in held.holds:
            each.gives_way = held.memory.release
        self._ended.append(held.memory)

    def _let_ended_go(self) -> None:
        with contextlib.suppress(IndexError):
            while self._ended:
                self._ended.popleft().release()

    def _begun(self, identity: FileIdentity, rule: Rule) -> HeldFile | None:
        """The file, perhaps in part. Whoever holds it by a rule with nothing to spare: it gives way no longer."""
        held = self._files.begun(identity)
        if held is not None and not rule.spare:
            for each in held.holds:
                each.gives_way = None
        return held

    def _numbers(self, mapping: Mapping, parts: Iterable[Span] | None) -> tuple[int, ...]:
        """Those of the pieces in which parts of the file lie."""
        if parts is None:
            return tuple(self._registrar.pieces(0, mapping.identity.size))
        return tuple(sorted({n for one in parts for n in self._registrar.pieces(one.offset, one.length)}))

    def _step(
        self,
        identity: FileIdentity,
        device: torch.device,
        missing: deque[int],
        rule: Rule | None,
        since: object,
    ) -> bool:
        """One piece; whether nothing is left to do."""
        self._let_ended_go()
        mapping = self._registry.of(identity)
        if mapping is None or (self._files.begun(identity) is None and not self._warm(mapping.path)):
            return True
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            over = self._advance(mapping, missing, rule or self.rule, since)
        if over and (held := self._files.whole(identity)) is not None:
            _log.info("%s: loads read it straight from RAM (%s)", mapping.path.name, size(held.memory.size))
        self.come += over
        return over

    def _step_of_memory(
        self,
        owner: weakref.ref[Owner],
        names: Collection[str] | None,
        device: torch.device,
        since: object,
    ) -> bool:
        """Whether nothing is left to do; where its weights are being moved, whoever does that asks anew."""
        self._memory.let_ended_go()
        found = owner()
        try:
            with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
                return found is None or self._memory.hold(found.homes(names), lambda: since is self._since)
        except Exception as error:  # somebody changes the model meanwhile
            _log.debug("weights in RAM are not read directly: %s", error)
            return True

    def _advance(
        self, mapping: Mapping, missing: deque[int], rule: Rule, since: object | None = None
    ) -> bool:
        """Register the first of these pieces; whether nothing is left to do: they are held, or cannot be.

        `since`: everything was released last when they were asked for; if it was again, they are not wanted.
        """
        with self._changing:
            if since not in (None, self._since):
                return True
            held = self._files.begun(mapping.identity)
            try:
                if held is None or missing[0] not in held.claimed:
                    held = self._claim(mapping, held, missing, rule)
                if held is not None:
                    held.memory.register_piece(missing.popleft())
            except Exception as error:  # only a faster way: whatever it is, loads go on without it
                self._failed.add(mapping.identity)
                if held is not None and not held.users:
                    self._files.let_go(held)
                _log.info("%s: not read directly (%s); going on through staging", mapping.path, error)
                return True
            return held is None or not missing

    def _claim(
        self, mapping: Mapping, held: HeldFile | None, numbers: Iterable[int], rule: Rule
    ) -> HeldFile | None:
        """The file, with RAM set aside for these pieces of it; None where there is none."""
        identity = mapping.identity
        new = set(numbers) - (held.claimed if held is not None else set())
        if not new:
            return held
        sizes = [min(self._registrar.piece, identity.size - number * self._registrar.piece) for number in new]
        hold = None if identity in self._failed else self._ledger.take(sum(sizes), rule, of_file=True)
        if hold is None:
            return None
        if rule.spare and (held is None or all(each.gives_way for each in held.holds)):
            hold.gives_way = partial(self._files.let_oldest_go, identity)
        if held is not None:
            held.holds.append(hold)
        else:
            try:
                buffer = map_shared(self._registry, identity)
            except BaseException:
                hold.release()
                raise
            holds = [hold]  # of all that is registered, until nothing of it is

            def gone(_address: int) -> None:
                for each in holds:
                    each.release()

            memory = Registered(buffer, self._registrar, gone)
            held = self._files.add(mapping, memory, holds)
        held.claimed |= new
        return held

    def _written_over(self, identity: FileIdentity) -> None:
        """Its pages are about to be others: nobody starts to read them, and whoever has started is waited for."""
        held = self._files.begun(identity)
        if held is not None:
            self._failed.add(identity)
            self._files.let_go(held)
            self.let_go += 1
            self._settle()
            mapped = [each for each in self._registry.live() if each.identity == identity]
            if any(each.standing is Standing.LOST for each in mapped):
                self._mixed.add(identity)
