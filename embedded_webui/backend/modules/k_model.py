"""What is moved and sampled with: the transformer, under the name that Forge gives it."""
import torch

class KModel(torch.nn.Module):
    def __init__(self, model, diffusers_scheduler, k_predictor=None, config=None):
        super().__init__()
        self.diffusion_model, self.storage_dtype = model, torch.bfloat16

    def apply_model(self, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options={}, **kwargs):  # noqa: B006
        return self.diffusion_model(x, c_crossattn, t, kwargs["y"], kwargs["guidance"])
