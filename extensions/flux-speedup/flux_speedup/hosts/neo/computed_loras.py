"""LoRAs that Forge Neo computes at each use ("Automatic (fp16 LoRA)") are there once, and leave with their model.

The host by itself forgets them of layers that stay when others come to stay, computes them twice for layers that
leave one by one, and goes on computing those that were taken off a model that was there as a whole. How often that
comes about depends on what else gives way, which is less with ours.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ...patching.change import Call, Change, Function, whatever_is_there
from ...weights.named import named_modules


def changes(module: str) -> list[Change]:
    """`module`: that of `ModelPatcher`."""
    wraps: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
        "load": _wrap_load,
        "partially_unload": partial(_wrap_partially_unload, module),
        "unpatch_model": partial(_wrap_unpatch_model, module),
    }
    found = [Function(module, f"ModelPatcher.{name}", wrap, guarded=False) for name, wrap in wraps.items()]
    return [Call(lambda: whatever_is_there(found), module=module)]


def _wrap_load(original: Callable[..., Any]) -> Callable[..., Any]:
    def load(patcher: Any, *args: Any, **kwargs: Any) -> Any:
        merged_into = {key.rpartition(".")[0] for key in patcher.backup}
        for name, layer, _ in _computed(patcher):
            # The host passes over what it takes for patched. Into what has a LoRA nothing may be merged again.
            if getattr(layer, "forge_patched_weights", False) and name not in merged_into:
                layer.forge_patched_weights = False
        return original(patcher, *args, **kwargs)

    return load


def _wrap_partially_unload(module: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def partially_unload(patcher: Any, *args: Any, **kwargs: Any) -> Any:
        freed = original(patcher, *args, **kwargs)
        kind: Any = sys.modules[module].LowVramPatch  # type: ignore[attr-defined]
        for _, _, functions in _computed(patcher):
            loras = [one for one in functions if isinstance(one, kind)]
            functions[:] = [one for one in functions if one not in loras[1:]]
        return freed

    return partially_unload


def _wrap_unpatch_model(module: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def unpatch_model(patcher: Any, device_to: Any = None, unpatch_weights: bool = True) -> Any:
        if unpatch_weights:
            wipe: Any = sys.modules[module].wipe_lowvram_weight  # type: ignore[attr-defined]
            for _, layer in named_modules(patcher.model):
                own = vars(layer)  # to ask a layer for what it does not have takes long
                computes = own.get("weight_function") or own.get("bias_function")
                if computes or "prev_parameters_manual_cast" in own:
                    wipe(layer)
        return original(patcher, device_to, unpatch_weights)

    return unpatch_model


def _computed(patcher: Any) -> Iterator[tuple[str, Any, list[Any]]]:
    """Layers with such LoRAs: name, layer, and what is computed of the weight at its use."""
    asked = getattr(patcher, "use_online_lora", lambda key: False)  # not there in every Neo
    for key in patcher.patches:
        if asked(key):
            owner, _, leaf = key.rpartition(".")
            layer = patcher.model.get_submodule(owner)
            yield owner, layer, getattr(layer, f"{leaf}_function", [])
