"""From a request to an image with its text."""
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
import torch
from PIL import Image
from backend import memory_management
from backend.sampling.sampling_function import calc_cond_uncond_batch
from modules import extra_networks, paths, scripts, sd_samplers_common, shared
from modules.infotext_utils import quote
from modules.sd_models import forge_model_reload

need_global_unload = False

@dataclass
class StableDiffusionProcessing:
    prompt: str = ""
    seed: int = -1
    steps: int = 2
    distilled_cfg_scale: float = 3.5
    width: int = 64
    height: int = 64
    override_settings: dict = field(default_factory=dict)
    is_api: bool = False
    cached_c: ClassVar = [None, None]  # what was encoded last, and what came of it; in all requests
    cached_uc: ClassVar = [None, None]

    def __post_init__(self):
        base = StableDiffusionProcessing
        self.cached_c, self.cached_uc, self.extra_generation_params = base.cached_c, base.cached_uc, {}

    def clear_prompt_cache(self):
        self.cached_c = StableDiffusionProcessing.cached_c = [None, None]
        self.cached_uc = StableDiffusionProcessing.cached_uc = [None, None]

    def get_conds_with_caching(
            self, function, required_prompts, steps, caches, extra_network_data, hires_steps=None):
        """What `function` makes of the prompts, unless that is known."""
        wanted, cache = (required_prompts, str(extra_network_data), shared.opts.sd_model_checkpoint), caches[0]
        if cache[0] != wanted:
            cache[1] = function(required_prompts)
            cache[0] = wanted
        return cache[1]

    def setup_conds(self):
        self.c = self.get_conds_with_caching(self.sd_model.get_learned_conditioning, self.prompts, self.steps,
                                             [self.cached_c], self.extra_network_data)

    def sample(self, conditioning, unconditional_conditioning, seeds, subseeds, subseed_strength, prompts):
        """Euler steps from packed noise (1, h, w, 64) to latents (1, 16, 2h, 2w)."""
        unet, (h, w) = self.sd_model.forge_objects.unet, (self.height // 16, self.width // 16)
        memory_management.load_models_gpu([unet])
        noise = torch.randn((1, h * w, 64), generator=torch.Generator().manual_seed(seeds[0]))
        guidance = torch.full((1,), self.distilled_cfg_scale, device=unet.load_device)
        cond, sampler = {**conditioning, "guidance": guidance}, sd_samplers_common.Sampler("euler")

        def steps():
            x = noise.to(unet.load_device)
            for i in range(self.steps):
                t = torch.full_like(guidance, 1 - i / self.steps)
                x = x - calc_cond_uncond_batch(unet.model, cond, None, x, t, {})[0] / self.steps
                sampler.callback_state({"i": i})
            return x

        x = sampler.launch_sampling(self.steps, steps)
        return x.view(1, h, w, 16, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(1, 16, h * 2, w * 2)

class StableDiffusionProcessingTxt2Img(StableDiffusionProcessing): ...
class StableDiffusionProcessingImg2Img(StableDiffusionProcessing): ...  # there is no route to it

class Processed:
    def __init__(self, p, images_list, seed=-1, info=""):
        self.images, self.seed, self.info = images_list, seed, info
        self.extra_generation_params = p.extra_generation_params

    def js(self): return json.dumps({"seed": self.seed, "infotexts": [self.info], **self.extra_generation_params})

    def infotext(self, p, index):
        """The text that is kept with an image."""
        said = {"Steps": p.steps, "Seed": self.seed, "Size": f"{p.width}x{p.height}", "Model hash": p.sd_model_hash,
                **p.extra_generation_params}
        said = {key: value(p) if callable(value) else value for key, value in said.items()}
        return f"{p.prompt}\n" + ", ".join(f"{key}: {quote(x)}" for key, x in said.items() if x is not None)

def decode_latent_batch(model, batch, target_device=None, check_for_nans=False):
    return [x.to(target_device) for x in model.decode_first_stage(batch)]

def manage_model_and_prompt_cache(p):
    global need_global_unload
    p.sd_model, just_reloaded = forge_model_reload()
    if need_global_unload and not just_reloaded:
        memory_management.unload_all_models()
    if need_global_unload:
        p.clear_prompt_cache()
    need_global_unload = False

def process_images(p):
    """Makes the image with the settings that the request brings; they are as they were afterwards."""
    scripts.scripts_txt2img.before_process(p)
    before = {key: getattr(shared.opts, key) for key in p.override_settings}
    try:
        for key, value in p.override_settings.items():
            shared.opts.set(key, value, is_api=True)
        manage_model_and_prompt_cache(p)
        return process_images_inner(p)
    finally:
        for key, value in before.items():
            shared.opts.set(key, value, is_api=True)

@torch.inference_mode()
def process_images_inner(p):
    seed = p.seed if p.seed >= 0 else torch.seed() % 2**32
    p.sd_model_hash = p.sd_model.sd_model_hash
    p.sd_model.forge_objects = p.sd_model.forge_objects_original.shallow_copy()
    p.prompts, p.extra_network_data = extra_networks.parse_prompts([p.prompt])
    extra_networks.activate(p, p.extra_network_data)
    p.sd_model.forge_objects = p.sd_model.forge_objects_after_applying_lora.shallow_copy()
    p.setup_conds()
    Path(paths.data_path, "params.txt").write_text(Processed(p, [], seed).infotext(p, 0), "utf8")
    latents = p.sample(p.c, None, [seed], [seed], 0, p.prompts)
    pixels = (decode_latent_batch(p.sd_model, latents, memory_management.cpu)[0] + 1) * 127.5
    image = Image.fromarray(pixels.round().byte().permute(1, 2, 0).numpy())
    return Processed(p, [image], seed, Processed(p, [], seed).infotext(p, 0))
