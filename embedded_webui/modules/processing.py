"""From a request to an image."""
from dataclasses import dataclass
from types import SimpleNamespace
import torch
from PIL import Image
from modules import shared
from modules.sd_models import forge_model_reload

@dataclass
class StableDiffusionProcessing:
    prompt: str = ""
    seed: int = -1
    steps: int = 2
    distilled_cfg_scale: float = 3.5
    width: int = 64
    height: int = 64
    is_api: bool = False
    override_settings: dict = None

def process_images(p):
    """The image, with settings of its own for this request alone."""
    before = shared.opts.data
    shared.opts.data = before | (p.override_settings or {})
    try:
        return process_images_inner(p)
    finally:
        shared.opts.data = before

@torch.inference_mode()
def process_images_inner(p):
    """Loads the chosen model and makes the image."""
    model, _ = forge_model_reload()
    seed = p.seed if p.seed >= 0 else torch.seed() % 2**32
    size = (1, p.height // 16, p.width // 16, 64)  # a token covers 16 x 16 pixels
    noise = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    pixels = (model.generate(p.prompt, noise, p.steps, p.distilled_cfg_scale)[0] + 1) * 127.5
    image = Image.fromarray(pixels.round().byte().permute(1, 2, 0).numpy())
    return SimpleNamespace(images=[image], seed=seed)
