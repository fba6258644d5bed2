"""Words to what the long text encoder makes of them."""
import zlib
import torch
from tiny_flux.models import TOKENS, WORDS

class T5TextProcessingEngine:
    def __init__(self, text_encoder, tokenizer, emphasis_name="Original", min_length=256):
        self.text_encoder, self.tokenizer = text_encoder, tokenizer  # None: see tokenize

    def tokenize(self, texts):
        """A word is a token, by its checksum: there is no vocabulary."""
        words = [[zlib.crc32(word.encode()) % WORDS for word in text.split()] for text in texts]
        device = next(self.text_encoder.parameters()).device
        return torch.tensor([(each + [0] * TOKENS)[:TOKENS] for each in words], device=device)

    def encode_with_transformers(self, tokens): return self.text_encoder(tokens).float()
    def __call__(self, texts): return self.encode_with_transformers(self.tokenize(texts))
