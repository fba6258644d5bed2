"""The API: the routes that a client of Forge uses for text to image, and `timings`, which is our own."""
import base64
import io
import time
from secrets import compare_digest
import torch
from fastapi import Depends, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from backend import memory_management as mm
from modules import processing, sd_models, shared, ui

class Api:
    def __init__(self, app, queue_lock):
        self.queue_lock, self._records = queue_lock, []
        if shared.demo is None:
            ui.create_ui()  # for the callbacks of settings and tabs
        for path, method, endpoint in (
            ("txt2img", "POST", self.text2imgapi), ("timings", "GET", self.timings),
            ("options", "GET", self.get_config), ("options", "POST", self.set_config),
            ("unload-checkpoint", "POST", self.unloadapi), ("reload-checkpoint", "POST", self.reloadapi),
        ):
            checks = [Depends(self.auth)] if shared.cmd_opts.api_auth else []
            app.add_api_route(f"/sdapi/v1/{path}", endpoint, methods=[method], dependencies=checks)

    def auth(self, credentials: HTTPBasicCredentials = Depends(HTTPBasic())):  # noqa: B008
        given = f"{credentials.username}:{credentials.password}".encode()
        if not any(compare_digest(given, x.encode()) for x in shared.cmd_opts.api_auth.split(",")):
            raise HTTPException(401, "Incorrect username or password", {"WWW-Authenticate": "Basic"})

    def text2imgapi(self, txt2imgreq: dict):
        with self.queue_lock:
            p = processing.StableDiffusionProcessing(**txt2imgreq, is_api=True)
            processing.process_images(p).images[0].save(buffer := io.BytesIO(), "PNG")
        return {"images": [base64.b64encode(buffer.getvalue()).decode()], "parameters": txt2imgreq}

    def get_config(self): return {key: getattr(shared.opts, key) for key in shared.opts.data_labels}

    def set_config(self, req: dict):
        for key, value in req.items():
            shared.opts.set(key, value, is_api=True)
        shared.opts.save(shared.config_filename)

    def unloadapi(self):
        with self.queue_lock:
            self._timed("unload", mm.unload_all_models)

    def reloadapi(self):
        """Builds the chosen model and brings all of it to the device."""
        with self.queue_lock, torch.inference_mode():
            model, _ = self._timed("load", sd_models.forge_model_reload)
            self._timed("move", mm.load_models_gpu, model.patchers)

    def timings(self):
        return {"simulated": mm.simulated, "device": mm.torch_device_name, "records": self._records}

    def _timed(self, kind, function, *args):
        started = time.perf_counter()
        result = function(*args)
        self._records.append({"kind": kind, "seconds": time.perf_counter() - started})
        return result
