"""Test extension: answers what the WebUI's memory manager and options hold, and reloads the UI."""

import os

from modules import script_callbacks

MANAGER = (
    "minimum_inference_memory",
    "compute_model_gpu_memory_when_using_cpu_swap",
    "load_models_gpu",
    "LoadedModel.model_load",
    "LoadedModel.model_unload",
)
ENTRY = ("make_checkpoint_manager_ui", "ui_refresh_memory_management_settings", "on_preset_change")
WITH_LEASES = {}
OPTIONS = ("forge_async_loading", "forge_pin_shared_memory", "forge_inference_memory")


def where(owner, path):
    """The file that the function in force was written in."""
    for part in path.split("."):
        owner = getattr(owner, part)
    return owner.__code__.co_filename


def on_app_started(_demo, app):
    @app.get("/probe/state")
    def state():
        import sys

        from backend import memory_management, stream
        from modules import processing, sd_models, shared
        from modules_forge import main_entry

        functions = {path: where(memory_management, path) for path in MANAGER}
        functions |= {path: where(main_entry, path) for path in ENTRY}
        functions["forge_loader"] = where(sd_models, "forge_loader")
        return {
            "functions": functions,
            "vram_state": memory_management.vram_state.name,
            "inference": memory_management.current_inference_memory,
            "pinned": memory_management.PIN_SHARED_MEMORY,
            "streams": stream.stream_activated,
            "offload": memory_management.ALWAYS_VRAM_OFFLOAD,
            "options": {key: shared.opts.data.get(key) for key in OPTIONS},
            "settings": [key for key in shared.opts.data_labels if key.startswith("flux_speedup_")],
            "unload": processing.need_global_unload,
            "finders": [
                type(finder).__name__ for finder in sys.meta_path if "flux_speedup" in type(finder).__module__
            ],
        }

    @app.get("/probe/weights")
    def weights():
        """What our residencies know, by the class of the module."""
        from flux_speedup import app as ours
        from flux_speedup.weights.files.span import find

        placement = ours._running._host._placement
        found = {}
        for module, residency in list(placement._residencies.items()):
            arrival = placement.arrival(module)
            found[type(module).__name__] = {
                "resident": len(residency.resident),
                "parameters": len(dict(module.named_parameters())),
                "backings": {backing.value: size for backing, size in residency.backings().items()},
                "arrived": dict(arrival.by_backing) if arrival else {},
                "merged": len(module.lora_loader.backup),
                # What the host keeps of merged weights, where no file stands behind it.
                "backup": sum(
                    weight.nbytes
                    for weight in module.lora_loader.backup.values()
                    if find(weight.detach(), placement.registry) is None
                ),
            }
        return found

    @app.get("/probe/checkpoints")
    def checkpoints():
        """The models that are kept: what of them is not at home, and what they share with another one."""
        import torch
        from modules import sd_models

        from flux_speedup import app as ours

        keeper = ours._running._host._keeper
        taken = set()
        if keeper._current is not None:
            assert keeper._current.engine is sd_models.model_data.sd_model
            taken = {id(part) for module in keeper._current._modules for part in module.modules()}
        found = []
        for kept in keeper.kept.entries():
            modules = kept.model._modules
            parts = {id(part) for module in modules for part in module.modules()}
            tensors = [t for m in modules for t in (*m.parameters(), *m.buffers())]
            residencies = [ours._running._host._placement.of(module) for module in modules]
            engine = kept.model.engine
            found.append(
                {
                    "file": kept.key.files[0][0],
                    "ram": kept.ram,
                    "away": sum(t.device != torch.device("cpu") for t in tensors),
                    "resident": sum(len(each.resident) for each in residencies),
                    "shared": len(parts & taken),
                    "loras": len(engine.forge_objects.unet.lora_patches),
                    "merged": sum(len(m.lora_loader.backup) for m in modules),
                }
            )
            taken |= parts
        return found

    @app.post("/probe/card")
    def card(body: dict):
        """The card has so many MB from now on, of which so many are kept for inference, and nothing on it."""
        from backend import memory_management as manager

        manager.unload_all_models()
        manager.probe_card["bytes"] = body["mb"] * 2**20
        manager.current_inference_memory = body["inference"] * 2**20
        return {}

    @app.post("/probe/save")
    def save(body: dict):
        from modules import shared

        return {"file": shared.sd_model.save_unet(body["file"])}

    @app.post("/probe/scribble")
    def scribble():
        """What a careless extension does: write into the text encoders' weights where they are."""
        import torch
        from modules import sd_models

        with torch.inference_mode():
            model = sd_models.model_data.sd_model.forge_objects.clip.patcher.model
            for name, weight in model.named_parameters():
                if weight.ndim == 2 and "SelfAttention" in name:
                    weight.mul_(1.5)
        return {}

    @app.post("/probe/leases")
    def leases(body: dict):
        """Whether this is a file system with leases."""
        from flux_speedup.weights.files import lease

        place = WITH_LEASES.setdefault("place", lease.place)
        lease.place = place if body["there"] else lambda *_: False
        return {}

    @app.post("/probe/reload-ui")
    def reload_ui():
        from modules import shared

        shared.state.server_command = "restart"
        return {}


script_callbacks.on_app_started(on_app_started)


def hold_up_hashes():
    """Background hashing gets nowhere until /probe/hash-now is asked for, or somebody waits and does it himself.

    GET /probe/hashes: the functions of the host in which somebody waited.
    """
    import threading
    import time
    import traceback

    from flux_speedup.weights.files import file_digests

    now, waited = threading.Event(), []
    real = file_digests.DigestPass

    class HeldUp(real):
        def _work(self):
            while not now.is_set() and not self._waited_for:
                time.sleep(0.02)
            super()._work()

        def wait(self):
            stack = [frame.name for frame in traceback.extract_stack() if "flux" not in frame.filename]
            waited.append({"file": self.path.name, "in": stack})
            return super().wait()

    file_digests.DigestPass = HeldUp

    def routes(_demo, app):
        @app.get("/probe/hashes")
        def hashes():
            return waited

        @app.post("/probe/hash-now")
        def hash_now():
            now.set()
            return {}

    script_callbacks.on_app_started(routes)


if os.environ.get("PROBE_HASHES"):
    hold_up_hashes()
