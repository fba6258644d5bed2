"""Test extension, loaded before ours: Forge Neo or reForge believes in a card, and generates on its stand-in.

PROBE_CARD_GIB: the size of the card. Models are loaded to torch.device("cpu", 0), which is not equal to the home of
weights, torch.device("cpu"); what is loaded, and what is on its way by us, counts as taken from the card.
"""

import os
import sys
import weakref

GIB = float(os.environ.get("PROBE_CARD_GIB", "0"))


def on_its_way():
    """Bytes that come before they are asked for."""
    running = getattr(sys.modules.get("flux_speedup.app"), "_running", None)
    overlap = getattr(getattr(running, "_host", None), "_overlap", None)
    return sum(each.early.bytes for each in overlap._coming) if overlap is not None else 0


def preload(parser):
    if not GIB:
        return
    import torch

    try:
        from backend import memory_management as manager
    except ImportError:
        from ldm_patched.modules import model_management as manager
    manager.cpu = torch.device("cpu")

    card = {"bytes": GIB * 2**30}
    manager.probe_card = card
    # Also those that the manager has just taken off its list, to load them with other LoRAs.
    on_card = weakref.WeakSet()
    model_load = manager.LoadedModel.model_load

    def counted(loaded, *args, **kwargs):
        if loaded.device != manager.cpu:
            on_card.add(loaded.model.model)
        return model_load(loaded, *args, **kwargs)

    def get_free_memory(dev=None, torch_free_too=False):
        loaded = sum(getattr(model, "model_loaded_weight_memory", 0) for model in on_card)
        free = card["bytes"] - loaded - on_its_way()
        return (free, free) if torch_free_too else free

    manager.LoadedModel.model_load = counted

    manager.vram_state = manager.VRAMState.NORMAL_VRAM
    manager.total_vram = GIB * 1024
    manager.get_free_memory = get_free_memory
    manager.get_total_memory = lambda *_, **__: card["bytes"]
    manager.minimum_inference_memory = lambda: 0
    manager.extra_reserved_memory = lambda: 0
    manager.get_torch_device = lambda: torch.device("cpu", 0)
    manager.text_encoder_device = manager.get_torch_device
    is_device_cpu = manager.is_device_cpu

    def as_on_the_cpu(original):
        """What a device can compute is asked of the CPU."""

        def function(*args, **kwargs):
            manager.is_device_cpu = is_device_cpu
            try:
                return original(*args, **kwargs)
            finally:
                manager.is_device_cpu = differs

        return function

    def differs(device):
        return device == manager.cpu

    for name in ("should_use_fp16", "should_use_bf16", "supports_dtype", "supports_cast"):
        setattr(manager, name, as_on_the_cpu(getattr(manager, name)))
    manager.is_device_cpu = differs
