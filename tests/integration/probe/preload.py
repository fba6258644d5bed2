"""Test extension, loaded before ours: this WebUI believes in a card, and can generate on its stand-in.

PROBE_CARD_GIB: the memory manager reports a card of that size. PROBE_DEVICE: models are loaded to
torch.device("cpu", 0), which is not equal to the home of weights, torch.device("cpu"); what is loaded counts as
taken from the card. With the value "second", to the tests' second device, which PyTorch tells apart from the CPU
(its package must be importable). PROBE_INFERENCE_MB: what the memory manager keeps for inference.
"""

import os
import sys

GIB = float(os.environ.get("PROBE_CARD_GIB", "0"))


def second_device():
    """The tests' second device; ours is told that it can be streamed to like a CPU."""
    from tests import second_device

    assert not second_device.why_not()
    lanes = sys.modules.get("flux_speedup.weights.transfer.lane")
    if lanes is not None:
        lanes.LANES.setdefault(second_device.CARD.type, lanes.PlainLane)
    return second_device.CARD


def preload(parser):
    if not GIB:
        return
    from backend import memory_management as manager
    from backend import stream

    card = {"bytes": GIB * 2**30}
    manager.probe_card = card
    device_given = os.environ.get("PROBE_DEVICE", "")

    def get_free_memory(dev=None, torch_free_too=False):
        there = [each for each in manager.current_loaded_models if each.device != manager.cpu]
        loaded = there if device_given else []
        free = card["bytes"] - sum(manager.module_size(each.model.model) for each in loaded)
        return (free, free) if torch_free_too else free

    manager.vram_state = manager.VRAMState[os.environ.get("PROBE_VRAM_STATE", "NORMAL_VRAM")]
    manager.total_vram = GIB * 1024
    manager.get_free_memory = get_free_memory
    if "PROBE_INFERENCE_MB" in os.environ:
        manager.current_inference_memory = int(os.environ["PROBE_INFERENCE_MB"]) * 2**20
    if device_given:
        import torch

        manager.get_torch_device = (
            second_device if device_given == "second" else lambda: torch.device("cpu", 0)
        )
        manager.text_encoder_device = manager.get_torch_device
        manager.is_device_cpu = lambda device: device == manager.cpu
    else:
        stream.current_stream = stream.mover_stream = "a stream, as far as this test goes"
