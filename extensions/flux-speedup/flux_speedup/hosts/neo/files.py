"""Forge Neo reads GGUF files as well as safetensors, by the same function."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from ...patching.change import Change
from ...weights.errors import WeightsError
from ...weights.files.mapping import Registry
from ..comfy.files import Files, at_home
from ..comfy.names import Names
from .gguf import SUFFIX, GgufFiles

log = logging.getLogger("flux_speedup")


class NeoFiles(Files):
    """Both become views of our mappings."""

    def __init__(self, names: Names, registry: Registry) -> None:
        super().__init__(names, registry)
        self._gguf = GgufFiles(names.manager, registry)

    def changes(self) -> list[Change]:
        return [*super().changes(), *self._gguf.changes()]

    def _wrap_load_file(self, original: Callable[..., Any]) -> Callable[..., Any]:
        others = super()._wrap_load_file(original)

        def load_torch_file(ckpt: Any, *args: Any, **kwargs: Any) -> Any:
            if args or not str(ckpt).lower().endswith(SUFFIX) or not at_home(kwargs.get("device")):
                return others(ckpt, *args, **kwargs)
            try:
                found = self._gguf.read(str(ckpt), partial(original, ckpt, **kwargs))
            except WeightsError as error:
                log.warning("%s; falling back to the WebUI's loader", error)
                return others(ckpt, **kwargs)
            self._note(True)
            return found

        return load_torch_file
