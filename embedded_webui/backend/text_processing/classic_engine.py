"""Words to one vector of the short text encoder."""
from backend.text_processing.t5_engine import T5TextProcessingEngine

class ClassicTextProcessingEngine(T5TextProcessingEngine):
    def encode_with_transformers(self, tokens): return self.text_encoder(tokens)[:, 0].float()
