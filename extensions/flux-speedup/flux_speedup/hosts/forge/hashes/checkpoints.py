"""The hash of a checkpoint: not waited for by the load that asks for it, but by whoever reads it first.

The host asks while it loads, and keeps the answer in five places: the checkpoint's entry (its title, too), the
lists by title and alias, the model, the request and an option. `Late` takes its place on model and request; the
entry, the lists and the option stay as they are until the host's own function, called again, fills them in.
"""

from __future__ import annotations

import inspect
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ....patching.change import Change, Undo, in_reverse
from ....weights.files.file_digests import FileDigests
from .attribute import Attribute, watch
from .here import Here
from .holders import HELD, Holders
from .late import Late
from .waiting import waiting

OPTION = "sd_checkpoint_hash"
# What an entry says that changes with its hash.
SAID = ("sha256", "shorthash", "title", "short_title", "ids")
log = logging.getLogger("flux_speedup")


class Checkpoints:
    """Entries whose hash is still to come. `never`: nobody waits for one; where it is missing it is left out.

    Safe from any thread. A hash is applied by the host's own function, on the thread that needs it.
    """

    def __init__(self, digests: FileDigests, never: bool, here: Here) -> None:
        self._digests = digests
        self._never = never
        self._here = here
        self._lock = threading.RLock()
        self._pending: dict[int, Late] = {}
        self._newest: Late | None = None
        self._holders = Holders(self.settle)
        self._told: set[str] = set()
        self._calculate: Any = None

    def watch(self) -> Undo:
        """Answer for the hash wherever the host keeps it. The undo waits for what is still missing."""
        from modules import processing, sd_models

        info, request = sd_models.CheckpointInfo, processing.StableDiffusionProcessing
        undo = in_reverse(
            [
                *(watch(info, name, partial(self._read_entry, name)) for name in SAID),
                *(watch(model, HELD, self._read_model, self._holders.write) for model in self._models()),
                watch(request, HELD, self._read_request, self._write_request),
            ]
        )

        def end() -> None:
            self.settle_all()
            undo()
            self._holders.release()

        return end

    def changes(self) -> list[Change]:
        """Further functions of the host that have to do with entries."""
        return []

    # What is wrapped.

    def wrap_reload(self, original: Any) -> Any:
        def forge_model_reload(*args: Any, **kwargs: Any) -> Any:
            here = self._here
            outermost = here.loading == 0
            here.loading += 1
            here.expecting = here.expecting or outermost
            try:
                return original(*args, **kwargs)
            finally:
                here.loading -= 1
                if outermost:
                    here.expecting, here.unasked = False, None
                    self._check_model()

        return forge_model_reload

    def wrap_calculate(self, original: Any) -> Any:
        self._calculate = original

        def calculate_shorthash(info: Any) -> Any:
            if self._is_loading(info):
                if self._is_missing(info):
                    return self._later(info)
                self._newest = None  # the host sets the option itself
            self.settle(info)
            found = original(info)
            late = self._pending.get(id(info))
            if late is not None:  # nobody waits by our setting, but whoever calls this does
                self._finish(late, found)
            return found

        return calculate_shorthash

    # Waiting.

    def settle_all(self) -> None:
        """Wait for every hash that is still to come, and let the host apply it."""
        for late in list(self._pending.values()):
            self.settle(late.info)

    def settle(self, info: Any) -> None:
        """Wait for a checkpoint's hash, if one is still to come, and let the host apply it."""
        late = self._pending.get(id(info))
        if late is None or self._here.settling or (self._never and self._is_missing(info)):
            return
        with waiting(info.filename):
            if self._is_missing(info):
                self._digests.wait(info.filename)
            with self._lock:
                if id(info) in self._pending:
                    self._apply(info, late)

    @contextmanager
    def shown(self, *, waits: bool) -> Iterator[None]:
        """In here entries are shown or saved: with their hashes, unless another thread's request waits for them."""
        if waits:
            self.settle_all()
        yield

    def is_late(self, p: Any) -> bool:
        """Whether a request holds the place of a hash, and there is none yet."""
        late = vars(p).get(HELD)
        if isinstance(late, Late) and not late.known and not self._is_missing(late.info):
            self.settle(late.info)
        return isinstance(late, Late) and not late.known

    # Helpers.

    def _models(self) -> list[type]:
        """Classes of the host's models."""
        from backend.diffusion_engine.base import ForgeDiffusionEngine

        return [ForgeDiffusionEngine]

    def _is_loading(self, info: Any) -> bool:
        """Whether the host asks as it loads, and has not asked before."""
        if not self._here.expecting or info is not _loading():
            return False
        self._here.expecting = False
        return True

    def _is_quiet(self) -> bool:
        """Whether whoever reads an entry now takes it as it is."""
        return False

    def _later(self, info: Any) -> Late:
        self._digests.begin(info.filename)
        with self._lock:
            late = self._newest = self._pending.setdefault(id(info), Late(info))
        self._here.unasked = info
        return late

    def _apply(self, info: Any, late: Late) -> None:
        found = None
        self._here.settling = True
        try:
            found = self._calculate(info)
        except Exception as error:  # an image is there by now: it must not be lost
            log.warning("%s: no hash (%s); images go without it", info.filename, error)
        finally:
            self._here.settling = False
        self._finish(late, found)

    def _finish(self, late: Late, found: str | None) -> None:
        with self._lock:
            late.is_of(found)
            self._pending.pop(id(late.info), None)
            self._tell_options(late)

    def _tell_options(self, late: Late) -> None:
        if self._newest is late:
            self._newest = None
            options()[OPTION] = late.info.sha256

    def _is_missing(self, info: Any) -> bool:
        """Whether the host would have to read the whole file now."""
        from modules import hashes, shared

        if shared.cmd_opts.no_hashing or not Path(info.filename).is_file():
            return False
        if hashes.sha256_from_cache(info.filename, f"checkpoint/{info.name}") is not None:
            return False
        return self._digests.known(info.filename) is None

    def _check_model(self) -> None:
        """A model of a class that we do not watch gets its hash now."""
        model = sys.modules["modules.sd_models"].model_data.sd_model
        late = getattr(model, "__dict__", {}).get(HELD)
        watched = isinstance(inspect.getattr_static(type(model), HELD, None), Attribute)
        if isinstance(late, Late) and not watched:
            self.settle(late.info)
            vars(model)[HELD] = late.value

    def _read_entry(self, name: str, info: Any, held: Any) -> Any:
        if self._here.settling or id(info) not in self._pending or self._is_quiet():
            return held
        if self._here.unasked is info and name == "sha256":
            self._here.unasked = None
            return options().get(OPTION, "")  # for the option, which keeps what it has
        self.settle(info)
        return vars(info).get(name, held)

    def _read_model(self, model: Any, held: Any) -> Any:
        return held if self._here.opening else self._holders.resolved(model, held)

    def _read_request(self, p: Any, held: Any) -> Any:
        frame = self._here.frame
        if isinstance(held, Late) and frame is not None and frame.with_tokens and frame.p is p:
            return frame.token("Model hash", lambda: self._holders.resolved(p, held))
        found = self._holders.resolved(p, held)
        if isinstance(held, Late) and not held.known:
            self._tell(held.info.filename)
        return found

    def _write_request(self, p: Any, value: Any) -> Any:
        self._here.opening = False
        return self._holders.write(p, value)

    def _tell(self, file: str) -> None:
        if file not in self._told:
            self._told.add(file)
            log.info("%s: its hash is not there yet; images go without it (hash_wait = never)", file)


def _loading() -> Any:
    parameters = sys.modules["modules.sd_models"].model_data.forge_loading_parameters
    return parameters.get("checkpoint_info")


def options() -> dict[str, Any]:
    """The values of the host's options."""
    found: dict[str, Any] = sys.modules["modules.shared"].opts.data
    return found
