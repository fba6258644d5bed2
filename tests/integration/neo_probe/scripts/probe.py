"""Test extension: Forge Neo or reForge tells what ours knows of its weights; A1111 believes in a card."""

import os
import sys
from pathlib import Path

from modules import script_callbacks

OURS = "flux_speedup.hosts.neo.webui"
WHOLE = ("BaseModel", "SD1ClipModel", "AutoencoderKL", "LatentDiffusion", "KModel")


def small_models_are_worth_streaming():
    from flux_speedup.hosts.common import overlap
    from flux_speedup.hosts.forge import need, split_models, streamed
    from flux_speedup.weights.streaming import split

    split_models.LEAST_MODEL = need.QUIET = overlap.MARGIN = 1 << 20
    streamed.RING, split.LEAST = 4 << 20, 1 << 17


def on_app_started(_demo, app):
    if OURS in sys.modules:
        small_models_are_worth_streaming()

    @app.get("/probe/weights")
    def weights():
        """What our residencies know, by the class of the module; of kept ones and the one in use, of that."""
        from flux_speedup import app as ours

        attachment = getattr(ours._running._host, "_attachment", None)
        known = list(attachment.placement._residencies.items()) if attachment else []
        found = {}
        for module, residency in sorted(known, key=lambda each: len(each[1].resident)):
            arrival = attachment.placement.arrival(module)
            found[type(module).__name__] = {
                "resident": len(residency.resident),
                "parameters": len(dict(module.named_parameters())),
                "backings": {backing.value: size for backing, size in residency.backings().items()},
                "arrived": dict(arrival.by_backing) if arrival else {},
                "ahead": arrival.early if arrival else 0,
            }
        return found

    @app.post("/probe/card")
    def card(body: dict):
        """The card has so many GiB from now on, and nothing on it."""
        from backend import memory_management

        memory_management.unload_all_models()
        memory_management.probe_card["bytes"] = body["gib"] * 2**30
        return {}

    @app.get("/probe/alive")
    def alive():
        """How many models of each class somebody still holds."""
        import collections
        import gc

        import torch

        gc.collect()
        kinds = [type(each).__name__ for each in gc.get_objects() if torch.nn.Module in type(each).__mro__]
        return {kind: count for kind, count in collections.Counter(kinds).items() if kind in WHOLE}

    @app.get("/probe/bytes")
    def bytes_of_weights():
        """A checksum of each part of the model in use, as it computes now; without what no file here has."""
        import zlib

        import torch
        from backend.operations_gguf import dequantize_tensor
        from modules import sd_models

        def computed_with(parameter):
            if hasattr(parameter, "_qdata"):
                return [parameter._qdata, parameter._params.scale]
            # What is small in a GGUF file is cast at its first use.
            small = hasattr(parameter, "gguf_cls") and parameter.data.ndim < 2
            return [] if small else [dequantize_tensor(parameter)]

        found = {}
        for name, part in vars(sd_models.model_data.sd_model.forge_objects_original).items():
            module = getattr(getattr(part, "patcher", part), "model", None)
            for own, parameter in module.named_parameters() if module is not None else ():
                if own.endswith(("text_projection.weight", "logit_scale")):
                    continue
                with torch.inference_mode():
                    for tensor in computed_with(parameter):
                        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
                        found[name] = zlib.crc32(data, found.get(name, 0))
        return found

    @app.get("/probe/memory")
    def memory():
        """Bytes of weights by where they are: views of files, and memory of their own."""
        from modules import sd_models

        from flux_speedup import app as ours
        from flux_speedup.weights.files.span import find

        manager = ours._running._host._manager

        views = own = 0
        engine = sd_models.model_data.sd_model
        for part in vars(engine.forge_objects_original).values():
            module = getattr(getattr(part, "patcher", part), "model", None)
            for tensor in module.parameters() if module is not None else ():
                if find(tensor) is None:
                    own += tensor.nbytes
                else:
                    views += tensor.nbytes
        loaded = [
            [type(each.model.model).__name__, each.model_loaded_memory(), each.model_memory()]
            for each in manager.current_loaded_models
        ]
        return {"views": views, "own": own, "loaded": loaded}


def believe_in_a_card():
    """A1111: its device is not equal to the home of weights."""
    import torch
    from modules import devices, shared

    devices.device = shared.device = torch.device("cpu", 0)
    devices.get_optimal_device_name = lambda: "cpu:0"


def build_a_small_unet():
    """A1111 builds what its configuration says, others what they see in the file."""
    from modules import paths, sd_models_config
    from omegaconf import OmegaConf

    config = OmegaConf.load(sd_models_config.config_default)
    file = Path(paths.data_path) / "small.yaml"
    small = {"attention_resolutions": [1], "num_res_blocks": 1, "channel_mult": [1, 1]}
    config.model.params.unet_config.params.update(small)
    OmegaConf.save(config, file)
    sd_models_config.config_default = str(file)


if os.environ.get("PROBE_CARD_OF_A1111"):
    believe_in_a_card()
    build_a_small_unet()
script_callbacks.on_app_started(on_app_started)
