"""Layers that work with weights of any dtype on any device, by casting them when used, as Forge's do."""
import threading
import torch
from torch import nn
from torch.nn import functional as F

_scratch = threading.local()

def cast(weight, like):
    """The weight in dtype and on device of `like`; on a CPU in a buffer that the next call uses again."""
    if like.device.type != "cpu" or weight.dtype == like.dtype:
        return weight.to(like)
    if getattr(_scratch, "buffer", like[:0]).numel() < weight.numel():
        _scratch.buffer = torch.empty(weight.numel(), dtype=torch.float32)
    return _scratch.buffer[: weight.numel()].view(weight.shape).copy_(weight)

class Linear(nn.Linear):
    parameters_manual_cast = True  # the mark of a layer that also works with its weights on the host

    def forward(self, x): return F.linear(x, cast(self.weight, x), self.bias.to(x))

class QKNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x): return F.rms_norm(x, x.shape[-1:], self.scale.to(x), 1e-6)

class Tree(nn.Module):
    """Modules under the dotted names that a checkpoint gives them."""

    def __init__(self, parts):
        super().__init__()
        for name, module in parts.items():
            parent, (*path, leaf) = self, name.split(".")
            for step in path:
                parent = parent._modules.setdefault(step, nn.Module())
            parent.add_module(leaf, module)

    def __getitem__(self, name): return self.get_submodule(name)
