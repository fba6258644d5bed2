"""Which models are on the device, how much room it has, and who must leave.

Without CUDA the device is `torch.device("cpu", 0)`: a second arena in RAM with the size of an 80 GB card.
It is a simulated device, our stand-in: moving to it really copies bytes, but no figure it gives is a GPU's.
"""
import logging
import sys
import time
from enum import Enum
import psutil
import torch
from backend.args import args
from tiny_flux import timings

cpu = torch.device("cpu")
simulated = not torch.cuda.is_available() and not args.always_cpu
SIMULATED_BYTES = 80 * 1024**3
_STATES = ["DISABLED", "NO_VRAM", "LOW_VRAM", "NORMAL_VRAM", "HIGH_VRAM", "SHARED"]
VRAMState = Enum("VRAMState", _STATES, start=0)
_asked = {"DISABLED": args.always_cpu, "NO_VRAM": args.always_no_vram, "LOW_VRAM": args.always_low_vram,
          "HIGH_VRAM": args.always_high_vram or args.always_gpu, "NORMAL_VRAM": True}
vram_state = VRAMState[next(name for name, flag in _asked.items() if flag)]
ALWAYS_VRAM_OFFLOAD = args.always_offload_from_vram
PIN_SHARED_MEMORY = args.pin_shared_memory
current_inference_memory = 1024**3
current_loaded_models = []

def minimum_inference_memory(): return current_inference_memory

def get_torch_device():
    if simulated or args.always_cpu:
        return torch.device("cpu", 0) if simulated else cpu
    return torch.device(torch.cuda.current_device())

def is_device_cpu(device):
    """Whether this is the host's own memory, which the simulated device is not."""
    return device.type == "cpu" and not (simulated and device == get_torch_device())

def get_total_memory(dev=None, torch_total_too=False):
    dev = dev or get_torch_device()
    ram, card = psutil.virtual_memory().total, SIMULATED_BYTES
    total = ram if is_device_cpu(dev) else card if simulated else torch.cuda.mem_get_info(dev)[1]
    return (total, total) if torch_total_too else total

def get_free_memory(dev=None, torch_free_too=False):
    dev, idle = dev or get_torch_device(), 0
    if is_device_cpu(dev):
        free = psutil.virtual_memory().available
    elif simulated:
        free = SIMULATED_BYTES - sum(x.inclusive_memory for x in current_loaded_models if x.device == dev)
    else:
        idle = torch.cuda.memory_reserved(dev) - torch.cuda.memory_allocated(dev)
        free = torch.cuda.mem_get_info(dev)[0] + idle
    return (free, idle) if torch_free_too else free

total_vram = get_total_memory() / 1024**2
torch_device_name = "simulated device, our stand-in" if simulated else str(get_torch_device())
logging.getLogger("embedded_webui").info("%s: %.0f MB, %s", torch_device_name, total_vram, vram_state.name)

def module_size(module, exclude_device=None, include_device=None, return_split=False):
    """Bytes of a module's parameters, optionally only those on one device or off it."""
    sizes = [(name, p.nbytes) for name, p in module.named_parameters()
             if p.device != exclude_device and include_device in (None, p.device)]
    total, weight = sum(size for _, size in sizes), sum(size for name, size in sizes if name == "weight")
    return (total, weight, total - weight) if return_split else total

def module_move(module, device, recursive=True, excluded_pattens=[]):  # noqa: B006
    """Moves parameters that are elsewhere; to and from the simulated device by copies (`.to` makes none)."""
    for name, p in module.named_parameters(recurse=recursive):
        if simulated and name not in excluded_pattens and (p.data_ptr() == p.home) != (device == cpu):
            p.data = p.data.clone()
            p.home = p.data_ptr() if device == cpu else p.home
        elif not simulated and name not in excluded_pattens:
            p.data = p.data.to(device)
    return module

def build_module_profile(model, model_gpu_memory_when_using_cpu_swap):
    """Splits the layers: wholly on the device, only their small parts there (none, here), on the host."""
    on_device, on_host, left = [], [], model_gpu_memory_when_using_cpu_swap
    layers = [m for m in model.modules() if next(m.parameters(recurse=False), None) is not None]
    for m in sorted(layers, key=lambda layer: hasattr(layer, "parameters_manual_cast")):
        m.total_mem, m.weight_mem, m.extra_mem = module_size(m, return_split=True)
        fits = m.total_mem < left or not hasattr(m, "parameters_manual_cast")
        (on_device if fits else on_host).append(m)
        left -= m.total_mem if fits else 0
    return on_device, [], on_host

class LoadedModel:
    """One model on the device, from `model_load` to `model_unload`."""

    def __init__(self, model):
        self.model, self.device = model, model.load_device
        self.inclusive_memory = self.exclusive_memory = 0

    def __eq__(self, other): return self.model is other.model

    def compute_inclusive_exclusive_memory(self):
        """Bytes that are on the device already, and bytes that are not."""
        there = self.model.model_size() * (self.model.current_device == self.device)
        self.inclusive_memory = there if simulated else module_size(self.model.model, None, self.device)
        self.exclusive_memory = self.model.model_size() - self.inclusive_memory

    def model_load(self, model_gpu_memory_when_using_cpu_swap=-1):
        """Brings the model to the device: all of it, or (from 0 up) as many bytes as are given."""
        budget = model_gpu_memory_when_using_cpu_swap
        try:
            self.real_model = self.model.forge_patch_model(self.device if budget < 0 else None)
            parts = [self.real_model] if budget < 0 else build_module_profile(self.real_model, budget)[0]
            for part in parts if budget >= 0 else ():
                module_move(part, self.device, recursive=False)
            self.inclusive_memory = sum(module_size(part) for part in parts)
        except Exception:
            self.model_unload()
            raise
        self.model.current_device = self.device
        self.model.refresh_loras()
        return self.real_model

    def model_unload(self, avoid_model_moving=False):
        self.inclusive_memory = 0
        self.model.forge_unpatch_model(None if avoid_model_moving else self.model.offload_device)

def free_memory(memory_required, device, keep_loaded=[], free_all=False):  # noqa: B006
    """Unloads models of `device`, the longest unused first, until `memory_required` bytes are free."""
    everything = free_all or ALWAYS_VRAM_OFFLOAD or vram_state == VRAMState.NO_VRAM
    for loaded in current_loaded_models[::-1]:
        if sys.getrefcount(loaded.model) <= 2:  # only the list knows it: nobody will ever use it again
            _drop(loaded, avoid_model_moving=True)
        elif (loaded.device == device and loaded not in keep_loaded
              and (everything or get_free_memory(device) <= memory_required)):
            _drop(loaded)

def _drop(loaded, avoid_model_moving=False):
    current_loaded_models.remove(loaded)
    loaded.model_unload(avoid_model_moving)
    soft_empty_cache()

def compute_model_gpu_memory_when_using_cpu_swap(current_free_mem, inference_memory):
    room = current_free_mem - inference_memory
    return int(max(0, room / 1.3, room - 1.25 * 1024**3))

def load_models_gpu(models, memory_required=0, hard_memory_preservation=0):
    """Brings the models to their devices, makes room first, records the time."""
    to_free = max(minimum_inference_memory(), memory_required) + hard_memory_preservation
    here = [x for x in current_loaded_models if any(x.model is m for m in models)]
    current_loaded_models.sort(key=lambda x: x not in here)  # the last used first
    for loaded in [LoadedModel(m) for m in models if not any(x.model is m for x in here)]:
        started = time.perf_counter()
        for clone in [x for x in current_loaded_models if loaded.model.is_clone(x.model)]:
            _drop(clone, avoid_model_moving=True)
        loaded.compute_inclusive_exclusive_memory()
        if not is_device_cpu(loaded.device):
            need = loaded.exclusive_memory + loaded.inclusive_memory * 0.25
            free_memory(need * 1.3 + to_free, loaded.device, here)
        loaded.model_load(_swap_budget(loaded, minimum_inference_memory() + hard_memory_preservation))
        current_loaded_models.insert(0, loaded)
        here.append(loaded)
        timings.record("move", type(loaded.model.model).__name__, started)

def load_model_gpu(model): return load_models_gpu([model])

def _swap_budget(loaded, inference):
    state, free = vram_state, get_free_memory(loaded.device)
    if is_device_cpu(loaded.device) or state == VRAMState.NO_VRAM:
        return 0 if state == VRAMState.NO_VRAM else -1
    if state == VRAMState.HIGH_VRAM or free - loaded.exclusive_memory - inference >= 0:
        return -1
    return loaded.inclusive_memory or compute_model_gpu_memory_when_using_cpu_swap(free, inference)

def unet_offload_device(): return get_torch_device() if vram_state == VRAMState.HIGH_VRAM else cpu

def unet_inital_load_device(parameters, dtype):
    """Where a new transformer is built: on the device where that is forced or has more room than RAM."""
    device, room = get_torch_device(), get_free_memory(get_torch_device())
    roomy = room > max(get_free_memory(cpu), parameters * dtype.itemsize)
    return device if vram_state == VRAMState.HIGH_VRAM or (roomy and not ALWAYS_VRAM_OFFLOAD) else cpu

def soft_empty_cache(force=False):
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

def unload_all_models(): free_memory(1e30, get_torch_device(), free_all=True)
