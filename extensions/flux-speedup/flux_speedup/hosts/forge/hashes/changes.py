"""What is changed in the host so that no load waits for a hash."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from ....patching.change import Call, Change, Function, whatever_is_there
from ....weights.files.file_digests import FileDigests
from .checkpoints import Checkpoints
from .here import Here
from .loras import MODULE, Loras
from .texts import Texts

PROCESSING = "modules.processing"
MODELS = "modules.sd_models"
RELOADS = tuple((module, "forge_model_reload") for module in (MODELS, PROCESSING))
FEW_CORES = 2
"""A thread that hashes takes one core; where there are fewer than this, computing would feel it."""


class HashWait:
    """The changes of one process. `never`: images go without a hash that is missing.

    reloads: functions in which the host loads a checkpoint. kind: how it asks for the hash there.
    """

    def __init__(
        self,
        digests: FileDigests,
        never: bool,
        device: Callable[[], Any],
        reloads: Sequence[tuple[str, str]] = RELOADS,
        kind: type[Checkpoints] = Checkpoints,
    ) -> None:
        here = Here()
        self._digests = digests
        self._device = device
        self._reloads = reloads
        self._checkpoints = kind(digests, never, here)
        self._loras = Loras(digests, never, here)
        self._texts = Texts(self._checkpoints, here, self._computing)

    def changes(self) -> list[Change]:
        """For checkpoints and the texts of requests."""
        checkpoints, texts = self._checkpoints, self._texts
        shown: list[Change] = [
            Function(module, path, texts.wrap_shown)
            for module, path in (
                (MODELS, "list_models"),
                (MODELS, "checkpoint_tiles"),
                ("modules.options", "Options.save"),
                ("modules.options", "Options.dumpjson"),
                ("modules.sysinfo", "get_config"),
            )
        ]
        looked_up: list[Change] = [
            Function(module, "get_closet_checkpoint_match", self._wrap_match)
            for module in (MODELS, "modules.img2img")
        ]
        return [
            Function(MODELS, "CheckpointInfo.calculate_shorthash", checkpoints.wrap_calculate),
            *(Function(module, name, checkpoints.wrap_reload) for module, name in self._reloads),
            *checkpoints.changes(),
            Function(PROCESSING, "process_images_inner", texts.wrap_inner),
            Function(PROCESSING, "StableDiffusionProcessing.setup_conds", texts.wrap_setup_conds),
            Function(PROCESSING, "StableDiffusionProcessingTxt2Img.setup_conds", texts.wrap_setup_conds),
            Function(PROCESSING, "StableDiffusionProcessingTxt2Img.sample", texts.wrap_sample),
            Function(PROCESSING, "StableDiffusionProcessingImg2Img.sample", texts.wrap_sample),
            Function(PROCESSING, "Processed.__init__", texts.wrap_processed),
            Function(PROCESSING, "Processed.infotext", texts.wrap_infotext),
            Function(PROCESSING, "Processed.js", texts.wrap_js),
            Function(MODELS, "select_checkpoint", self._wrap_select),
            Function("modules.scripts", "ScriptRunner.before_process", self._wrap_before_process),
            Call(partial(whatever_is_there, [*shown, *looked_up])),
            Call(checkpoints.watch, module=PROCESSING),
        ]

    def lora_changes(self) -> list[Change]:
        """For LoRAs, once the host's extension for them is there."""
        return [Call(self._loras.begin, module=MODULE)]

    # Names that a hash still to come may make known: before the host says that there is no such checkpoint.

    def _wrap_match(self, original: Any) -> Any:
        def get_closet_checkpoint_match(search_string: Any, *args: Any, **kwargs: Any) -> Any:
            self._look_up(search_string)
            return original(search_string, *args, **kwargs)

        return get_closet_checkpoint_match

    def _wrap_select(self, original: Any) -> Any:
        def select_checkpoint(*args: Any, **kwargs: Any) -> Any:
            self._look_up(getattr(sys.modules["modules.shared"].opts, "sd_model_checkpoint", None))
            return original(*args, **kwargs)

        return select_checkpoint

    def _wrap_before_process(self, original: Any) -> Any:
        def before_process(runner: Any, p: Any, *args: Any, **kwargs: Any) -> Any:
            self._look_up((getattr(p, "override_settings", None) or {}).get("sd_model_checkpoint"))
            return original(runner, p, *args, **kwargs)

        return before_process

    def _look_up(self, name: Any) -> None:
        if isinstance(name, str) and name and name not in sys.modules[MODELS].checkpoint_aliases:
            self._checkpoints.settle_all()

    def _computing(self) -> AbstractContextManager[None]:
        """Hashing gives way to computing that wants the same cores."""
        busy = getattr(self._device(), "type", "cpu") == "cpu" or _cores() < FEW_CORES
        return self._digests.gate.computing() if busy else nullcontext()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
