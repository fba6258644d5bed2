"""What every sampler does around its steps."""
from modules.shared import state

class Sampler:
    def __init__(self, funcname): self.funcname = funcname
    def callback_state(self, d): state.sampling_step = d["i"]
    def launch_sampling(self, steps, func): return func()
