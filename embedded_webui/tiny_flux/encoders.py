"""A T5-like and a CLIP-like encoder and a VAE decoder."""
from torch import nn

WORDS, TOKENS = 4096, 32  # size of the vocabulary, tokens of a prompt

class Encoder(nn.Module):
    """Token numbers (batch, TOKENS) to (batch, TOKENS, width); computes in the dtype of its weights."""

    def __init__(self, width, layers, hidden):
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 12, hidden, 0.0, "gelu", batch_first=True, norm_first=True)
        self.shared = nn.Embedding(WORDS, width)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, ids): return self.encoder(self.shared(ids))

class T5(Encoder):
    def __init__(self): super().__init__(1008, 7, 3072)

class Clip(Encoder):
    def __init__(self): super().__init__(768, 4, 3072)

class IntegratedAutoencoderKL(nn.Module):
    """Latents (batch, 16, h, w) to an image (batch, 3, 8h, 8w) from -1 to 1."""

    def __init__(self):
        super().__init__()
        stages = (nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(64, 64, 3, padding=1), nn.SiLU())
                  for _ in range(3))
        self.decoder = nn.Sequential(nn.Conv2d(16, 64, 3, padding=1), *stages, nn.Conv2d(64, 3, 3, padding=1))

    def forward(self, z): return self.decoder(z).tanh()
