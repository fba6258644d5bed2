"""One of those that Flux does not need: FreeU is for the U-Net of older models. Here it does nothing."""
from modules import scripts

class FreeU(scripts.Script):
    def title(self): return "FreeU (a stand-in: it changes nothing)"
