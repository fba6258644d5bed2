"""A transformer of Flux's shape: double blocks, single blocks, and Flux's names, at a third of its width."""
import torch
from torch.nn import functional as F
from tiny_flux.layers import Linear, QKNorm, Tree

WIDTH, HEADS, DOUBLE, SINGLE = 1024, 8, 3, 5

def _modulate(x, shift, scale): return F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift

def _wave(t):
    angles = t[:, None] * 1000 * 10000 ** -(torch.arange(128, device=t.device) / 128)
    return torch.cat([angles.cos(), angles.sin()], -1)

def _attention(q, k, v): return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

class Flux(Tree):
    """Predicts the flow of packed latents (batch, tokens, 64) from text, time and guidance."""

    def __init__(self):
        sizes = {"img_in": (64, 1), "txt_in": (1008, 1), "final_layer.adaLN_modulation.1": (WIDTH, 2)}
        for name, inputs in (("time_in", 256), ("vector_in", 768), ("guidance_in", 256)):
            sizes |= {f"{name}.in_layer": (inputs, 1), f"{name}.out_layer": (WIDTH, 1)}
        norms = [f"single_blocks.{i}.norm" for i in range(SINGLE)]
        for block in (f"double_blocks.{i}.{side}" for i in range(DOUBLE) for side in ("img", "txt")):
            sizes |= {f"{block}_{name}": (WIDTH, n) for name, n in
                      (("mod.lin", 6), ("attn.qkv", 3), ("attn.proj", 1), ("mlp.0", 4))}
            sizes[f"{block}_mlp.2"] = (4 * WIDTH, 1)
            norms.append(f"{block}_attn.norm")
        for block in (f"single_blocks.{i}" for i in range(SINGLE)):
            sizes |= {f"{block}.modulation.lin": (WIDTH, 3), f"{block}.linear1": (WIDTH, 7),
                      f"{block}.linear2": (5 * WIDTH, 1)}
        parts = {name: Linear(inputs, outputs * WIDTH) for name, (inputs, outputs) in sizes.items()}
        parts |= {f"{norm}.{n}_norm": QKNorm(WIDTH // HEADS) for norm in norms for n in ("query", "key")}
        super().__init__(parts | {"final_layer.linear": Linear(WIDTH, 64)})

    def forward(self, img, txt, t, vector, guidance):
        img, txt = self["img_in"](img), self["txt_in"](txt)
        inputs = (("time_in", _wave(t)), ("guidance_in", _wave(guidance)), ("vector_in", vector))
        vec = F.silu(sum(self[f"{n}.out_layer"](F.silu(self[f"{n}.in_layer"](x.to(img)))) for n, x in inputs))
        for i in range(DOUBLE):
            txt, img = self._double(f"double_blocks.{i}", {"txt": txt, "img": img}, vec)
        x = torch.cat([txt, img], 1)
        for i in range(SINGLE):
            x = self._single(f"single_blocks.{i}", x, vec)
        shift, scale = self["final_layer.adaLN_modulation.1"](vec)[:, None].chunk(2, -1)
        return self["final_layer.linear"](_modulate(x[:, txt.shape[1] :], shift, scale))

    def _qkv(self, norm, qkv):
        q, k, v = qkv.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return self[f"{norm}.query_norm"](q), self[f"{norm}.key_norm"](k), v

    def _double(self, block, sides, vec):
        mods = {s: self[f"{block}.{s}_mod.lin"](vec)[:, None].chunk(6, -1) for s in sides}
        qkvs = [self._qkv(f"{block}.{s}_attn.norm", self[f"{block}.{s}_attn.qkv"](_modulate(x, *mods[s][:2])))
                for s, x in sides.items()]
        mixed = _attention(*(torch.cat(pair, 2) for pair in zip(*qkvs, strict=True)))
        parts = mixed.split([x.shape[1] for x in sides.values()], 1)
        for (s, x), part in zip(sides.items(), parts, strict=True):
            x = x + mods[s][2] * self[f"{block}.{s}_attn.proj"](part)
            hidden = F.gelu(self[f"{block}.{s}_mlp.0"](_modulate(x, *mods[s][3:5])))
            yield x + mods[s][5] * self[f"{block}.{s}_mlp.2"](hidden)

    def _single(self, block, x, vec):
        shift, scale, gate = self[f"{block}.modulation.lin"](vec)[:, None].chunk(3, -1)
        qkv, hidden = self[f"{block}.linear1"](_modulate(x, shift, scale)).split([3 * WIDTH, 4 * WIDTH], -1)
        mixed = _attention(*self._qkv(f"{block}.norm", qkv))
        return x + gate * self[f"{block}.linear2"](torch.cat([mixed, F.gelu(hidden)], -1))
