"""Writes GGUF files of safetensors files, every matrix in one quantisation; run by a Python that has `gguf`.

Arguments: source, target and quantisation of each.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

# T5's names in such files, and what they stand for.
T5 = {
    "layer.0.SelfAttention.relative_attention_bias": "attn_rel_b",
    "layer.0.SelfAttention.": "attn_",
    "layer.1.DenseReluDense.wi_0": "ffn_gate",
    "layer.1.DenseReluDense.wi_1": "ffn_up",
    "layer.1.DenseReluDense.wo": "ffn_down",
    "layer.0.layer_norm": "attn_norm",
    "layer.1.layer_norm": "ffn_norm",
    "encoder.final_layer_norm": "enc.output_norm",
    "encoder.block": "enc.blk",
    "shared": "token_embd",
}


def named(name: str) -> str:
    for long, short in T5.items():
        name = name.replace(long, short)
    return name


def write(tensors: dict[str, torch.Tensor], target: Path, kind: str) -> None:
    import gguf

    quantisation = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(str(target), "flux")
    for long, tensor in tensors.items():
        data = tensor.to(torch.float32).numpy()
        name = named(long)
        whole = data.ndim == 2 and data.shape[1] % gguf.GGML_QUANT_SIZES[quantisation][0] == 0
        if whole and "attn_rel_b" not in name:
            writer.add_tensor(name, gguf.quants.quantize(data, quantisation), raw_dtype=quantisation)
        else:
            writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    words = iter(sys.argv[1:])
    for source, target, kind in zip(words, words, words, strict=True):
        write(load_file(source), Path(target), kind)
