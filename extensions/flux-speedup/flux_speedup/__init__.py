"""flux-speedup: takes model loading out of Flux image generation, from inside the WebUI."""

__version__ = "0.1.0"
