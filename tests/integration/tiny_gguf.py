"""Writes a GGUF file of a safetensors file, every matrix in one quantisation; run by a Python that has `gguf`."""

import sys

import gguf
import torch
from safetensors.torch import load_file

source, target, kind = sys.argv[1:4]
quantisation = gguf.GGMLQuantizationType[kind]
writer = gguf.GGUFWriter(target, "flux")
for name, tensor in load_file(source).items():
    data = tensor.to(torch.float32).numpy()
    if data.ndim == 2 and data.shape[1] % gguf.GGML_QUANT_SIZES[quantisation][0] == 0:
        writer.add_tensor(name, gguf.quants.quantize(data, quantisation), raw_dtype=quantisation)
    else:
        writer.add_tensor(name, data)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
