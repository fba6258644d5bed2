"""What Forge will load is read into the page cache before: at its start, and when another checkpoint is built.

At the start `install.py` has begun with it (at_install.py). What that has not read, or could not know, is read when
scripts are loaded, as the options name the checkpoint, or else (a first start) as soon as the host has chosen one;
the checkpoint's digest comes along. Later it begins when a model was built: its transformer is read while its text
encoders compute. What is in the page cache is not read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...patching.change import Call, Change, Declined, Function, Undo
from ...weights.files.file_digests import FileDigests
from ...weights.files.gate import Gate
from ...weights.files.pagecache import is_cold
from ...weights.files.readahead import Outcome, ReadAhead, in_order
from ...weights.packed.store import PACKED
from .likely import Likely

ENTRY = "modules_forge.main_entry"
MODELS = "modules.sd_models"
PROCESSING = "modules.processing"
STOP_S = 5.0
Prepare = Callable[[Sequence[Path], Callable[[], bool]], None]


@dataclass(frozen=True)
class Selection:
    """The files of the model that is selected. `unhashed`: the host will ask for the checkpoint's sha256."""

    checkpoint: Path
    others: tuple[Path, ...]
    unhashed: bool


class Background:
    """The read-ahead of one process. `digests` None: no digest comes along."""

    def __init__(self, digests: FileDigests | None, gate: Gate, prepare: Prepare | None = None) -> None:
        """`prepare`: told of the files that the first load will read, once they have been, and asks whether it will
        still; of none of them where a model was built before.
        """
        self._digests = digests
        self._prepare = prepare
        self._gate = gate
        self._reading: ReadAhead | None = None
        self._unhashed: Path | None = None
        self._likely: Likely | None = None

    def changes(self, again: bool = True) -> list[Change]:
        """`again`: also when the host has built another model; else at its start alone."""
        if not again:
            return [Call(self._begin)]
        return [
            Call(self._begin),
            Function(ENTRY, "forge_main_entry", self._wrap_main_entry),
            *(Function(module, "forge_model_reload", self._wrap_reload) for module in (MODELS, PROCESSING)),
        ]

    def progress(self) -> tuple[int, int]:
        """Bytes that are read, and that are to be, of the newest selection."""
        return self._reading.progress() if self._reading is not None else (0, 0)

    def _begin(self) -> Undo:
        self._start()
        return self._stop

    def _stop(self) -> None:
        self._unhashed = self._prepare = None
        if self._likely is not None:
            self._likely.stop()
        if self._reading is not None:
            self._reading.stop(STOP_S)

    def _wrap_main_entry(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def forge_main_entry(*args: Any, **kwargs: Any) -> Any:
            done = original(*args, **kwargs)
            self._start()
            return done

        return forge_main_entry

    def _wrap_reload(self, original: Callable[..., Any]) -> Callable[..., Any]:
        if not hasattr(getattr(sys.modules[MODELS], "model_data", None), "forge_loading_parameters"):
            raise Declined(
                "this WebUI does not say what it has built; files are read ahead at its start alone"
            )

        def forge_model_reload(*args: Any, **kwargs: Any) -> Any:
            done = original(*args, **kwargs)
            if done[1]:  # built or brought back just now; nothing of it is on the device
                self._prepare = None
                parameters = sys.modules[MODELS].model_data.forge_loading_parameters
                others = parameters.get("additional_modules") or []
                self._read(_selection(parameters["checkpoint_info"], others, unhashed=False))
            return done

        return forge_model_reload

    def _start(self) -> None:
        selection = _selected() if self._reading is None else None
        if selection is None:
            return
        if selection.unhashed:
            self._unhashed = selection.checkpoint
        self._read(selection)
        if self._digests is not None and not _no_hashing():
            self._likely = Likely(self._digests, selection.checkpoint, self._reading, is_cold)
            self._likely.start()

    def _read(self, selection: Selection) -> None:
        # What is hashed must be read itself.
        files = [
            path if path == self._unhashed else PACKED.instead_of(path)
            for path in in_order(selection.checkpoint, selection.others)
            if path.is_file()
        ]
        if self._reading is not None:
            if self._reading.paths == files and not self._reading.wait(0):
                return  # it is at it
            self._reading.stop(0)
        waiting = set(files)

        def ended(outcome: Outcome) -> None:
            self._hash(outcome.path)
            waiting.discard(outcome.path)
            if not waiting and self._prepare is not None:
                self._prepare(files, lambda: _selects(selection))

        self._reading = ReadAhead(files, needed=is_cold, begins=self._hash, ended=ended, gate=self._gate)
        self._reading.start()

    def _hash(self, path: Path) -> None:
        """Where it is read anyway, hashing follows the reading; before that it would read other bytes."""
        if self._digests is not None and path == self._unhashed:
            self._digests.begin(path)


def _selected() -> Selection | None:
    """What the host is going to load, as its options and its list of checkpoints say now."""
    models, shared = sys.modules.get("modules.sd_models"), sys.modules.get("modules.shared")
    if models is None or shared is None:
        return None
    found = models.checkpoint_aliases.get(getattr(shared.opts, "sd_model_checkpoint", None))
    if found is None:
        return None
    others = getattr(shared.opts, "forge_additional_modules", None) or []
    return _selection(found, others, unhashed=not found.sha256 and not _no_hashing())


def _selects(selection: Selection) -> bool:
    """Whether the host would load it still, as far as it says."""
    now = _selected()
    return now is None or replace(now, unhashed=selection.unhashed) == selection


def _no_hashing() -> bool:
    return bool(getattr(sys.modules["modules.shared"].cmd_opts, "no_hashing", False))


def _selection(info: Any, others: Iterable[str], *, unhashed: bool) -> Selection:
    return Selection(Path(info.filename), tuple(map(Path, others)), unhashed)
