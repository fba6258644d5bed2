"""The API: the routes that a client of Forge uses for text to image, and `timings`, which is our own."""
import base64
import io
import time
from secrets import compare_digest
import torch
from fastapi import Depends, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from PIL.PngImagePlugin import PngInfo
from backend import memory_management
from modules import processing, sd_models, shared, sysinfo, ui
from modules.timer import startup_timer
from tiny_flux import timings

def encode_pil_to_base64(image):
    info, buffer = PngInfo(), io.BytesIO()
    info.add_text("parameters", image.info["parameters"])
    image.save(buffer, "PNG", pnginfo=info)
    return base64.b64encode(buffer.getvalue()).decode()

class Api:
    def __init__(self, app, queue_lock):
        self.app, self.queue_lock = app, queue_lock
        self.credentials = dict(x.split(":") for x in (shared.cmd_opts.api_auth or "").split(",") if x)
        if shared.demo is None:
            ui.create_ui()  # for the callbacks of settings and tabs
        for path, method, endpoint in (
            ("txt2img", "POST", self.text2imgapi), ("options", "GET", self.get_config),
            ("options", "POST", self.set_config), ("sd-models", "GET", self.get_sd_models),
            ("unload-checkpoint", "POST", self.unloadapi), ("reload-checkpoint", "POST", self.reloadapi),
            ("timings", "GET", self.timings)):
            self.add_api_route(f"/sdapi/v1/{path}", endpoint, methods=[method])

    def add_api_route(self, path, endpoint, **kwargs):
        checks = [Depends(self.auth)] if self.credentials else []
        return self.app.add_api_route(path, endpoint, dependencies=checks, **kwargs)

    def auth(self, credentials: HTTPBasicCredentials = Depends(HTTPBasic())):  # noqa: B008
        right = self.credentials.get(credentials.username)
        if right is None or not compare_digest(credentials.password.encode(), right.encode()):
            raise HTTPException(401, "Incorrect username or password", {"WWW-Authenticate": "Basic"})

    def text2imgapi(self, txt2imgreq: dict):
        known = processing.StableDiffusionProcessing.__dataclass_fields__
        p = processing.StableDiffusionProcessing(**{k: v for k, v in txt2imgreq.items() if k in known})
        with self.queue_lock:
            done = processing.process_images(p)
        images = [encode_pil_to_base64(image) for image in done.images]
        return {"images": images, "parameters": txt2imgreq, "info": done.js()}

    def get_config(self): return sysinfo.get_config()

    def set_config(self, req: dict): sysinfo.set_config(req)

    def get_sd_models(self):
        return [{"title": x.title, "model_name": x.model_name, "filename": x.filename, "hash": None}
                for x in sd_models.checkpoints_list.values()]

    def unloadapi(self):
        with self.queue_lock:
            started = time.perf_counter()
            sd_models.unload_model_weights()
            timings.record("unload", "all", started)
        return {}

    def reloadapi(self):
        """Builds the chosen model and brings all of it to the device."""
        with self.queue_lock, torch.inference_mode():
            p = processing.StableDiffusionProcessing()
            processing.manage_model_and_prompt_cache(p)
            parts = p.sd_model.forge_objects
            memory_management.load_models_gpu([parts.clip.patcher, parts.unet, parts.vae.patcher])
        return {}

    def timings(self):
        return {"simulated": memory_management.simulated, "device": memory_management.torch_device_name,
                "start": startup_timer.dump(), "records": timings.records}
