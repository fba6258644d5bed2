"""Memory that cannot be written, for PyTorch, which has no tensors of that kind and warns of each."""

from __future__ import annotations

import mmap

import numpy as np


class ReadOnly:
    """What NumPy takes as an array without a copy. Who writes into a tensor of it ends the process: nobody may."""

    def __init__(self, buffer: mmap.mmap, offset: int = 0, length: int = -1) -> None:
        self.keeps = np.frombuffer(buffer, dtype=np.uint8, count=length, offset=offset)
        self.__array_interface__ = {**self.keeps.__array_interface__, "data": (self.keeps.ctypes.data, False)}
