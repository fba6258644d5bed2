"""What A1111 has on the device, and how it is taken off it and brought back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...patching.change import ChangeError, Function, Undo, apply
from ...stats.report import size
from ..common.forms import as_it_is, uses
from ..common.inside import Inside, Model, Refused
from ..common.loads import MODELS, bytes_on_device, file_of, models_in_memory

PROCESSING = "modules.processing"


class A1111Inside(Inside):
    """Built models by `modules.sd_models`; moved by its own two functions."""

    def vram_by_model(self) -> tuple[tuple[str, int], ...]:
        held = [(file_of(model).name, bytes_on_device(model)) for model in models_in_memory()]
        return tuple((name, length) for name, length in held if length)

    def models(self) -> list[Model]:
        held = sum(length for _, length in self.vram_by_model())
        built = models_in_memory()[:1]
        forms = tuple(use for model in built for use in uses(file_of(model).name, as_it_is(model)))
        return [replace(each, device_bytes=held, forms=forms) for each in super().models()]

    def in_memory(self) -> dict[Path, str]:
        return {**{file_of(model): "kept" for model in models_in_memory()[1:]}, **super().in_memory()}

    def free_vram(self) -> str:
        """Raises Refused where this WebUI could not take its model back for the next image."""
        models = sys.modules.get(MODELS)
        if not hasattr(models, "send_model_to_cpu") or not hasattr(models, "send_model_to_device"):
            raise Refused("not available on this WebUI")
        with self.nobody_else():
            held = self.vram_by_model()
            if not held:
                return "no model was on the device"
            try:
                _bring_back_for_the_next_image()
            except ChangeError as error:
                raise Refused(f"not available on this WebUI: {error}") from error
            for model in models_in_memory():
                models.send_model_to_cpu(model)  # type: ignore[union-attr]
        names = ", ".join(name for name, _ in held)
        return f"{size(sum(length for _, length in held))} left the device: {names}"


def _bring_back_for_the_next_image() -> None:
    """This WebUI itself would compute with the model where it lies."""
    undo: list[Undo] = []

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def process_images_inner(*args: Any, **kwargs: Any) -> Any:
            for each in undo:
                each()
            undo.clear()
            models: Any = sys.modules[MODELS]
            if models.model_data.sd_model is not None:
                models.send_model_to_device(models.model_data.sd_model)
            return original(*args, **kwargs)

        return process_images_inner

    undo.append(apply(Function(PROCESSING, "process_images_inner", wrap)))
