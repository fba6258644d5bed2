"""A transformer of Flux's shape and names at a third of its width, two text encoders, a VAE; their files."""
import os
from collections import OrderedDict
from functools import partial
from pathlib import Path
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from backend.operations import ForgeOperations

WORDS, TOKENS = 4096, 32  # size of the vocabulary, tokens of a prompt
WIDTH, HEADS = 1024, 8
DOUBLE = [f"double_blocks.{i}.{side}" for i in range(2) for side in ("txt", "img")]
SINGLE = [f"single_blocks.{i}" for i in range(4)]

def _encoder(width, layers):
    """Token numbers (batch, TOKENS) to (batch, TOKENS, width); computes in the dtype of its weights."""
    layer = nn.TransformerEncoderLayer(width, 12, 3072, 0.0, "gelu", batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
    return nn.Sequential(OrderedDict(shared=nn.Embedding(WORDS, width), encoder=encoder))

class IntegratedAutoencoderKL(nn.Sequential):
    """Latents (batch, 16, h, w) to an image (batch, 3, 8h, 8w) from -1 to 1."""

    def __init__(self):
        first, last, up = nn.Conv2d(16, 64, 3, 1, 1), nn.Conv2d(64, 3, 3, 1, 1), nn.Upsample(scale_factor=2)
        stages = [nn.Sequential(up, nn.Conv2d(64, 64, 3, 1, 1), nn.SiLU()) for _ in range(3)]
        super().__init__(OrderedDict(decoder=nn.Sequential(first, *stages, last, nn.Tanh())))

class Flux(nn.Module):
    """Flow of packed latents (batch, tokens, 64); of its blocks only the single ones mix text and image."""

    def __init__(self):
        super().__init__()
        sizes = {"img_in": (64, WIDTH), "txt_in": (1008, WIDTH), "final_layer.linear": (WIDTH, 64)}
        sizes["final_layer.adaLN_modulation.1"] = (WIDTH, 2 * WIDTH)
        for name, width in (("time_in", 256), ("vector_in", 768), ("guidance_in", 256)):
            sizes |= {f"{name}.in_layer": (width, WIDTH), f"{name}.out_layer": (WIDTH, WIDTH)}
        for block in DOUBLE:
            sizes |= {f"{block}_mod.lin": (WIDTH, 6 * WIDTH), f"{block}_attn.qkv": (WIDTH, 3 * WIDTH)}
            sizes |= {f"{block}_attn.proj": (WIDTH, WIDTH), f"{block}_mlp.0": (WIDTH, 4 * WIDTH)}
            sizes |= {f"{block}_mlp.2": (4 * WIDTH, WIDTH)}
        for block in SINGLE:
            sizes |= {f"{block}.modulation.lin": (WIDTH, 3 * WIDTH), f"{block}.linear1": (WIDTH, 7 * WIDTH)}
            sizes |= {f"{block}.linear2": (5 * WIDTH, WIDTH)}
        self.layers = {name: ForgeOperations.Linear(*size) for name, size in sizes.items()}
        for norm in (*(f"{block}_attn.norm" for block in DOUBLE), *(f"{block}.norm" for block in SINGLE)):
            for part in ("query_norm", "key_norm"):
                self.layers[f"{norm}.{part}"] = nn.ParameterDict({"scale": torch.ones(WIDTH // HEADS)})
        for name, layer in self.layers.items():
            parent, (*path, leaf) = self, name.split(".")
            for step in path:
                parent = parent._modules.setdefault(step, nn.Module())
            parent.add_module(leaf, layer)

    def forward(self, img, txt, t, vector, guidance):
        vec = 0
        for name, x in {"time_in": _wave(t), "guidance_in": _wave(guidance), "vector_in": vector}.items():
            vec = vec + self._linear(f"{name}.out_layer", F.silu(self._linear(f"{name}.in_layer", x)))
        sides = {"txt": self._linear("txt_in", txt), "img": self._linear("img_in", img)}
        vec = F.silu(vec)[:, None]
        for block in DOUBLE:
            sides[block[-3:]] = self._double(block, sides[block[-3:]], vec)
        x = torch.cat(list(sides.values()), 1)
        for block in SINGLE:
            x = self._single(block, x, vec)
        shift, scale = self._linear("final_layer.adaLN_modulation.1", vec).chunk(2, -1)
        return self._linear("final_layer.linear", _modulate(x[:, TOKENS:], shift, scale))

    def _linear(self, name, x): return self.layers[name](x)

    def _attention(self, norm, qkv):
        q, k, v = qkv.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        scales = (self.layers[f"{norm}.{part}"].scale.to(q) for part in ("query_norm", "key_norm"))
        q, k = (F.rms_norm(x, x.shape[-1:], scale, 1e-6) for x, scale in zip((q, k), scales, strict=True))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def _double(self, block, x, vec):
        mods = self._linear(f"{block}_mod.lin", vec).chunk(6, -1)
        qkv = self._linear(f"{block}_attn.qkv", _modulate(x, *mods[:2]))
        x = x + mods[2] * self._linear(f"{block}_attn.proj", self._attention(f"{block}_attn.norm", qkv))
        hidden = F.gelu(self._linear(f"{block}_mlp.0", _modulate(x, *mods[3:5])))
        return x + mods[5] * self._linear(f"{block}_mlp.2", hidden)

    def _single(self, block, x, vec):
        shift, scale, gate = self._linear(f"{block}.modulation.lin", vec).chunk(3, -1)
        joint = self._linear(f"{block}.linear1", _modulate(x, shift, scale))
        qkv, hidden = joint.split([3 * WIDTH, 4 * WIDTH], -1)
        mixed = torch.cat([self._attention(f"{block}.norm", qkv), F.gelu(hidden)], -1)
        return x + gate * self._linear(f"{block}.linear2", mixed)

def _modulate(x, shift, scale): return F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift
def _wave(t): return torch.cos(t[:, None] * 1000 * 10000 ** -(torch.arange(256, device=t.device) / 256))

T5, CLIP = partial(_encoder, 1008, 2), partial(_encoder, 768, 1)
def _lora():
    """Tensors of a LoRA for the first blocks, as trainers name them."""
    sizes, found = {"txt_attn_qkv": (3, 1), "img_attn_qkv": (3, 1), "img_mlp_2": (1, 4)}, {}
    for name, (out, into) in sizes.items():
        found[f"lora_unet_double_blocks_0_{name}.lora_down.weight"] = torch.empty(4, into * WIDTH)
        found[f"lora_unet_double_blocks_0_{name}.lora_up.weight"] = torch.empty(out * WIDTH, 4)
        found[f"lora_unet_double_blocks_0_{name}.alpha"] = torch.empty(1)
    return found

FILES = {
    "Stable-diffusion/tiny-flux-a": Flux, "Stable-diffusion/tiny-flux-b": Flux,
    "VAE/tiny-vae": IntegratedAutoencoderKL, "text_encoder/tiny-t5xxl": T5, "text_encoder/tiny-clip_l": CLIP,
    "Lora/tiny-lora": _lora}

def write_missing(folder):
    """Writes what is not there yet, each through a temporary file and a rename."""
    for seed, (name, kind) in enumerate(FILES.items()):
        path, random = Path(folder, f"{name}.safetensors"), torch.Generator().manual_seed(seed)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            dtype = torch.float32 if kind is IntegratedAutoencoderKL else torch.bfloat16
            made = kind()
            tensors = made if isinstance(made, dict) else made.to(dtype).state_dict()
            for key, x in tensors.items():
                values = torch.randn(x.shape, generator=random) / x[0].numel() ** 0.5
                x.copy_(torch.ones(x.shape) if "norm" in key or "alpha" in key else values)
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            save_file(tensors, temporary)
            temporary.replace(path)
