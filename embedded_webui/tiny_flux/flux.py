"""A transformer of Flux's shape: double blocks, single blocks, and Flux's names, at a third of its width."""
import torch
from torch.nn import functional as F
from tiny_flux.layers import Linear, RMSNorm, Tree, attention

WIDTH, HEADS, DOUBLE, SINGLE = 1024, 8, 3, 5

def _norms(name): return {f"{name}.{n}_norm": RMSNorm(WIDTH // HEADS) for n in ("query", "key")}

def _modulate(x, shift, scale): return F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift

def _wave(t):
    angles = t[:, None] * 1000 * 10000 ** -(torch.arange(128, device=t.device) / 128)
    return torch.cat([angles.cos(), angles.sin()], -1)

class Flux(Tree):
    """Predicts the flow of packed latents (batch, tokens, 64) from text, time and guidance."""
    def __init__(self):
        parts = {"img_in": Linear(64, WIDTH), "txt_in": Linear(1008, WIDTH)}
        for name, inputs in (("time_in", 256), ("vector_in", 768), ("guidance_in", 256)):
            parts |= {f"{name}.in_layer": Linear(inputs, WIDTH), f"{name}.out_layer": Linear(WIDTH, WIDTH)}
        for block in (f"double_blocks.{i}.{side}" for i in range(DOUBLE) for side in ("img", "txt")):
            outputs = {"mod.lin": 6, "attn.qkv": 3, "attn.proj": 1, "mlp.0": 4}
            parts |= {f"{block}_{name}": Linear(WIDTH, n * WIDTH) for name, n in outputs.items()}
            parts |= {f"{block}_mlp.2": Linear(4 * WIDTH, WIDTH), **_norms(f"{block}_attn.norm")}
        for block in (f"single_blocks.{i}" for i in range(SINGLE)):
            parts |= {f"{block}.modulation.lin": Linear(WIDTH, 3 * WIDTH), **_norms(f"{block}.norm")}
            parts |= {f"{block}.linear1": Linear(WIDTH, 7 * WIDTH), f"{block}.linear2": Linear(5 * WIDTH, WIDTH)}
        super().__init__(parts | {"final_layer.adaLN_modulation.1": Linear(WIDTH, 2 * WIDTH),
                                  "final_layer.linear": Linear(WIDTH, 64)})

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

    def _qkv(self, norms, qkv):
        q, k, v = qkv.unflatten(-1, (3, HEADS, -1)).unbind(-3)
        return [t.flatten(2) for t in (self[f"{norms}.query_norm"](q), self[f"{norms}.key_norm"](k), v)]

    def _double(self, block, sides, vec):
        mods = {s: self[f"{block}.{s}_mod.lin"](vec)[:, None].chunk(6, -1) for s in sides}
        qkvs = [self._qkv(f"{block}.{s}_attn.norm", self[f"{block}.{s}_attn.qkv"](_modulate(x, *mods[s][:2])))
                for s, x in sides.items()]
        mixed = attention(*(torch.cat(pair, 1) for pair in zip(*qkvs, strict=True)), HEADS)
        for (s, x), part in zip(sides.items(), mixed.split([x.shape[1] for x in sides.values()], 1), strict=True):
            x = x + mods[s][2] * self[f"{block}.{s}_attn.proj"](part)
            hidden = F.gelu(self[f"{block}.{s}_mlp.0"](_modulate(x, *mods[s][3:5])))
            yield x + mods[s][5] * self[f"{block}.{s}_mlp.2"](hidden)

    def _single(self, block, x, vec):
        shift, scale, gate = self[f"{block}.modulation.lin"](vec)[:, None].chunk(3, -1)
        qkv, hidden = self[f"{block}.linear1"](_modulate(x, shift, scale)).split([3 * WIDTH, 4 * WIDTH], -1)
        mixed = attention(*self._qkv(f"{block}.norm", qkv), HEADS)
        return x + gate * self[f"{block}.linear2"](torch.cat([mixed, F.gelu(hidden)], -1))
