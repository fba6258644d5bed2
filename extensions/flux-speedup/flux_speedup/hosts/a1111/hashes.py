"""A1111 and reForge ask for a checkpoint's hash wherever they load one: when it is chosen, and while they start.

Whoever waits for a checkpoint there does not wait for its hash: until it is there, entries are listed and saved as
they were before. The text of an image waits for it, as do those who ask for an entry otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...patching.change import Change, Function, Undo, in_reverse
from ..forge.hashes.attribute import watch
from ..forge.hashes.changes import MODELS
from ..forge.hashes.checkpoints import OPTION, Checkpoints, options
from ..forge.hashes.holders import HELD
from ..forge.hashes.late import Late

RELOADS = tuple((MODELS, name) for name in ("load_model", "reload_model_weights"))
CHOSEN = "sd_model_checkpoint"


class ChosenCheckpoints(Checkpoints):
    """Classes of models are watched as they come: `ldm` has many."""

    def watch(self) -> Undo:
        self._watched: dict[type, Undo] = {}
        others = super().watch()
        return lambda: in_reverse([*self._watched.values(), others])()

    def changes(self) -> list[Change]:
        return [Function("modules.script_callbacks", "model_loaded_callback", self._wrap_loaded)]

    @contextmanager
    def shown(self, *, waits: bool) -> Iterator[None]:
        self._here.quiet += 1
        try:
            yield
        finally:
            self._here.quiet -= 1

    def _wrap_loaded(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """What extensions do with a model that was just loaded is theirs."""

        def model_loaded_callback(*args: Any, **kwargs: Any) -> Any:
            loading, self._here.loading = self._here.loading, 0
            try:
                return original(*args, **kwargs)
            finally:
                self._here.loading = loading

        return model_loaded_callback

    def _models(self) -> list[type]:
        return []

    def _is_loading(self, info: Any) -> bool:
        return self._here.loading > 0

    def _later(self, info: Any) -> Late:
        late = super()._later(info)
        self._here.unasked = None  # here all of a load is quiet, not the next question alone
        return late

    def _is_quiet(self) -> bool:
        started = getattr(sys.modules.get("modules.timer"), "startup_record", None) is not None
        return self._here.loading > 0 or self._here.quiet > 0 or not started

    def _check_model(self) -> None:
        model = sys.modules[MODELS].model_data.sd_model
        kind, held = type(model), getattr(model, "__dict__", {}).get(HELD)
        if isinstance(held, Late) and kind.__module__.split(".")[0] != "torch" and kind not in self._watched:
            self._watched[kind] = watch(kind, HELD, self._read_model, self._holders.write)
            self._holders.write(model, held)
        super()._check_model()

    def _tell_options(self, late: Late) -> None:
        model: Any = sys.modules[MODELS].model_data.sd_model
        if model is None or getattr(model, "sd_checkpoint_info", None) is not late.info:
            return
        options()[OPTION] = vars(late.info)["sha256"]
        if options().get(CHOSEN) == late.title:
            options()[CHOSEN] = vars(late.info)["title"]
