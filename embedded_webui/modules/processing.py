"""From a request to an image."""
import json
import time
from dataclasses import dataclass, field
import torch
from PIL import Image
from backend import memory_management
from modules import shared
from modules.sd_models import forge_model_reload
from modules.sysinfo import set_config
from tiny_flux import timings

need_global_unload = False

@dataclass
class StableDiffusionProcessing:
    sd_model: object = None
    prompt: str = ""
    seed: int = -1
    steps: int = 2
    distilled_cfg_scale: float = 3.5
    width: int = 64
    height: int = 64
    override_settings: dict = field(default_factory=dict)
    override_settings_restore_afterwards: bool = True
    cached_c = (None, None)  # of the class: the last prompt and its encoding

    def clear_prompt_cache(self): StableDiffusionProcessing.cached_c = (None, None)

class Processed:
    def __init__(self, p, images_list, seed=-1, info=""):
        self.images, self.seed, self.info = images_list, seed, info

    def js(self): return json.dumps({"seed": self.seed, "infotexts": [self.info]})

def manage_model_and_prompt_cache(p):
    """Loads the chosen model; unloads everything first where a setting demands it."""
    global need_global_unload
    started = time.perf_counter()
    p.sd_model, just_reloaded = forge_model_reload()
    if just_reloaded:
        timings.record("load", p.sd_model.sd_checkpoint_info.name, started)
    elif need_global_unload:
        memory_management.unload_all_models()
    if need_global_unload:
        p.clear_prompt_cache()
    need_global_unload = False

def process_images(p):
    """Sets the request's own settings, makes the image, puts the settings back."""
    stored = {key: getattr(shared.opts, key) for key in p.override_settings if key in shared.opts.data_labels}
    try:
        set_config(p.override_settings, is_api=True, run_callbacks=False, save_config=False)
        manage_model_and_prompt_cache(p)
        return process_images_inner(p)
    finally:
        if p.override_settings_restore_afterwards:
            set_config(stored, save_config=False)

@torch.inference_mode()
def process_images_inner(p):
    model, seed = p.sd_model, p.seed if p.seed >= 0 else torch.seed() % 2**32
    if p.cached_c[0] != p.prompt:
        StableDiffusionProcessing.cached_c = (p.prompt, model.get_learned_conditioning([p.prompt]))
    h, w = p.height // 16, p.width // 16  # a token covers 16 x 16 pixels
    noise = torch.randn(1, h * w, 64, generator=torch.Generator().manual_seed(seed))
    latents = model.sample(noise, p.cached_c[1], p.steps, p.distilled_cfg_scale).view(1, h, w, 16, 2, 2)
    latents = latents.permute(0, 3, 1, 4, 2, 5).reshape(1, 16, h * 2, w * 2)
    pixels = ((model.decode_first_stage(latents)[0] + 1) * 127.5).round().byte().permute(1, 2, 0)
    image = Image.fromarray(pixels.numpy())
    image.info["parameters"] = (f"{p.prompt}\nSteps: {p.steps}, Seed: {seed}, Size: {p.width}x{p.height}, "
                                f"Model: {model.sd_checkpoint_info.model_name}")
    return Processed(p, [image], seed, image.info["parameters"])
