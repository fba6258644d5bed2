"""A T5-like and a CLIP-like encoder, which differ in names and sizes only, and a VAE decoder."""
import torch
from torch import nn
from torch.nn import functional as F
from tiny_flux.layers import Linear, RMSNorm, Tree, attention

WORDS, TOKENS = 4096, 32  # size of the vocabulary, tokens of a prompt

class Encoder(Tree):
    """Token numbers (batch, TOKENS) to (batch, TOKENS, width)."""
    def __init__(self):
        w, h, norm = self.width, self.hidden, "weight"
        parts = {self.embedding: nn.Embedding(WORDS, w), self.last: RMSNorm(w, norm)}
        for block in map(self.block.format, range(self.layers)):
            parts |= {block + name: Linear(w, w, bias=False) for name in self.qkvo}
            parts |= {block + name: RMSNorm(w, norm) for name in self.norms}
            parts |= {block + name: Linear(w, h, bias=False) for name in self.ups}
            parts |= {block + self.down: Linear(h, w, bias=False)}
        super().__init__(parts)

    def forward(self, ids, dtype):
        x = self[self.embedding](ids).to(dtype)
        for block in map(self.block.format, range(self.layers)):
            y = self[block + self.norms[0]](x)
            q, k, v = (self[block + name](y) for name in self.qkvo[:3])
            x = x + self[block + self.qkvo[3]](attention(q, k, v, 12))
            y = self[block + self.norms[1]](x)
            first, *gate = (self[block + name](y) for name in self.ups)
            x = x + self[block + self.down](F.gelu(first) * (gate[0] if gate else 1))
        return self[self.last](x)

class T5(Encoder):
    block, embedding, last = "encoder.block.{}.layer.", "shared", "encoder.final_layer_norm"
    qkvo, norms = [f"0.SelfAttention.{n}" for n in "qkvo"], ["0.layer_norm", "1.layer_norm"]
    ups, down = ["1.DenseReluDense.wi_0", "1.DenseReluDense.wi_1"], "1.DenseReluDense.wo"
    layers, width, hidden = 5, 1008, 2816

class Clip(Encoder):
    block, embedding = "text_model.encoder.layers.{}.", "text_model.embeddings.token_embedding"
    qkvo, norms = [f"self_attn.{n}_proj" for n in ("q", "k", "v", "out")], ["layer_norm1", "layer_norm2"]
    ups, down, last = ["mlp.fc1"], "mlp.fc2", "text_model.final_layer_norm"
    layers, width, hidden = 4, 768, 3072

class IntegratedAutoencoderKL(Tree):
    """Latents (batch, 16, h, w) to an image (batch, 3, 8h, 8w) from -1 to 1."""
    def __init__(self):
        sizes = {"conv_in": (16, 64), **{f"up.{i}.conv": (64, 64) for i in range(3)}, "conv_out": (64, 3)}
        super().__init__({f"decoder.{n}": nn.Conv2d(*size, 3, padding=1) for n, size in sizes.items()})

    def forward(self, z):
        x = self["decoder.conv_in"](z)
        for i in range(3):
            x = self[f"decoder.up.{i}.conv"](F.silu(F.interpolate(x, scale_factor=2.0)))
        return torch.tanh(self["decoder.conv_out"](F.silu(x)))
