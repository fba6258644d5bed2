"""What Forge's own classes make of GGUF files, without and with us; run by Forge's Python. Prints JSON, by file."""

import ctypes
import gc
import json
import sys
from pathlib import Path

forge, extension, *files = sys.argv[1:]
sys.path[:0] = [forge, str(Path(forge, "packages_3rdparty")), extension]

import backend.operations_gguf as operations  # noqa: E402
import backend.utils  # noqa: E402
import torch  # noqa: E402

from flux_speedup.hosts.forge import gguf_files  # noqa: E402
from flux_speedup.patching.change import apply  # noqa: E402
from flux_speedup.weights.files.mapping import Registry  # noqa: E402


def ram() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def bytes_of(parameter):
    return parameter.data.contiguous().reshape(-1).view(torch.uint8)


def alike(one, other) -> bool:
    names = ("gguf_cls", "real_shape", "computation_dtype", "baked", "shape", "requires_grad")
    same = all(getattr(one, name) == getattr(other, name) for name in names)
    same = same and type(one) is type(other) and one.data.dtype == other.data.dtype
    return same and one.data.shape == other.data.shape and torch.equal(bytes_of(one), bytes_of(other))


def built(parameters):
    """As a layer takes them."""
    return {name: parameter.to(device=torch.device("cpu")) for name, parameter in parameters.items()}


def compared(file):
    size = Path(file).stat().st_size
    backend.utils.load_torch_file(file)  # whatever is imported or allocated once
    before = ram()
    hosts = built(backend.utils.load_torch_file(file))
    hosts_ram = ram() - before
    registry = Registry()
    (change,) = (each for each in gguf_files.changes() if each.path.endswith("copy_with_data"))
    undo = apply(change)
    try:
        before = ram()
        ours = built(gguf_files.views(registry, file))
        ours_ram = ram() - before
        found = {
            "same": ours.keys() == hosts.keys() and all(alike(ours[name], hosts[name]) for name in hosts)
        }
        found["views"] = sum(
            registry.around(p.data.data_ptr(), p.data.nbytes) is not None for p in ours.values()
        )
        for each in (hosts, ours):
            for parameter in each.values():
                if parameter.gguf_cls is not None:
                    parameter.gguf_cls.bake(parameter)
        found["baked"] = all(alike(ours[name], hosts[name]) for name in hosts)
        found["values"] = all(
            torch.equal(
                bytes_of(operations.dequantize_tensor(ours[name])),
                bytes_of(operations.dequantize_tensor(hosts[name])),
            )
            for name in hosts
        )
        found["untouched"] = all(mapping.written() == [] for mapping in registry.live())
        return {**found, "tensors": len(hosts), "hosts": hosts_ram / size, "ours": ours_ram / size}
    finally:
        undo()


torch.set_grad_enabled(False)
print(json.dumps({Path(file).name: compared(file) for file in files}))
