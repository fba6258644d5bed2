"""The API: the routes that a client of Forge uses for text to image, and `timings`, which is our own."""
import base64
import io
import time
from secrets import compare_digest
import torch
from fastapi import Depends, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from PIL.PngImagePlugin import PngInfo
from pydantic import BaseModel
from backend import memory_management as mm
from modules import processing, scripts, sd_models, shared, ui

class _Request(BaseModel):
    prompt: str = ""
    seed: int = -1
    steps: int = 2
    distilled_cfg_scale: float = 3.5
    width: int = 64
    height: int = 64
    override_settings: dict = {}
    script_name: str | None = None
    alwayson_scripts: dict = {}

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

    def text2imgapi(self, txt2imgreq: _Request):
        asked = {key: value for key, value in vars(txt2imgreq).items() if "script" not in key}
        titles = [x.title() for x in scripts.scripts_txt2img.selectable_scripts]
        with self.queue_lock:
            if txt2imgreq.script_name and txt2imgreq.script_name not in titles:
                raise HTTPException(422, f"Script '{txt2imgreq.script_name}' not found")
            p = processing.StableDiffusionProcessingTxt2Img(**asked, is_api=True)
            chosen = titles.index(txt2imgreq.script_name) + 1 if txt2imgreq.script_name else 0
            made = scripts.scripts_txt2img.run(p, chosen) or processing.process_images(p)
            (said := PngInfo()).add_text("parameters", made.info)
            made.images[0].save(buffer := io.BytesIO(), "PNG", pnginfo=said)
        return {"images": [base64.b64encode(buffer.getvalue()).decode()], "parameters": asked, "info": made.js()}

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
            self._timed("move", mm.load_models_gpu, model.patchers())

    def timings(self):
        return {"simulated": mm.simulated, "device": mm.torch_device_name, "vram_mb": int(mm.total_vram),
                "records": self._records}

    def _timed(self, kind, function, *args):
        started = time.perf_counter()
        result = function(*args)
        self._records.append({"kind": kind, "seconds": time.perf_counter() - started})
        return result
