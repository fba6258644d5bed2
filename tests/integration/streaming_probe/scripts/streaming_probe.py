"""Test extension: models of a few megabytes are worth streaming, and modules raise where a test says so.

Free memory of the simulated card, of a size that a test gives, is what our residencies and rings leave of it: on
its stand-in tensors do not say where they are.
"""

import random

from modules import script_callbacks

CARD = {"bytes": 0.0}


def streaming():
    from flux_speedup import app as ours

    return ours._running._host._streaming


def make_small():
    from backend import memory_management as manager

    from flux_speedup import app as ours
    from flux_speedup.hosts.forge import need, split_models, streamed
    from flux_speedup.weights.streaming import split

    split_models.LEAST_MODEL = need.QUIET = 1 << 20
    need.OURS = 0
    streamed.RING, split.LEAST = 4 << 20, 1 << 17
    placement = ours._running._host._placement

    def get_free_memory(dev=None, torch_free_too=False):
        free = CARD["bytes"]
        for module, residency in list(placement._residencies.items()):
            here = set(residency.resident)
            free -= sum(tensor.nbytes for name, tensor in module.named_parameters() if name in here)
        free -= sum(
            each.stream.held for each in list(ours._running._host._streaming.models._streamed.values())
        )
        return (free, free) if torch_free_too else free

    manager.get_free_memory = get_free_memory


def on_app_started(_demo, app):
    @app.post("/probe/streaming-card")
    def card(body: dict):
        """The card has so many MB from now on, of which so many are kept for inference, and nothing on it."""
        from backend import memory_management as manager

        if not CARD["bytes"]:
            make_small()
        manager.unload_all_models()
        CARD["bytes"] = body["mb"] * 2**20
        manager.current_inference_memory = body["inference"] * 2**20
        return {}

    @app.post("/probe/raise")
    def raise_somewhere(body: dict):
        """A layer of the loaded model raises at its next call: before or after it has computed."""
        import torch
        from backend import memory_management as manager
        from modules import shared

        chance = random.Random(body["seed"])
        objects = shared.sd_model.forge_objects
        model = chance.choice([objects.unet.model, objects.unet.model, objects.clip.patcher.model])
        layer = chance.choice([m for m in model.modules() if hasattr(m, "parameters_manual_cast")])
        error = chance.choice([RuntimeError, manager.OOM_EXCEPTION])

        def fail(*_):
            handle.remove()
            raise error("on purpose")

        register = chance.choice([layer.register_forward_pre_hook, layer.register_forward_hook])
        handle = register(fail)
        assert isinstance(model, torch.nn.Module)
        return {"layer": type(layer).__name__}


script_callbacks.on_app_started(on_app_started)
