"""Which models are on the device, how much room it has, and who must leave.

Without CUDA the device is a stand-in with the size of an 80 GB card: `second_device`, RAM that PyTorch takes for
another device, or, where that cannot be compiled, a second name of the CPU. What moves there really is copied (to
a name it is not), but no figure that comes of it is a GPU's.
"""
from enum import Enum
import second_device
import torch
from backend.args import args

cpu = torch.device("cpu")
simulated = not torch.cuda.is_available()
_no_stand_in = second_device.why_not() if simulated else ""
torch_device_name = "simulated device, our stand-in" if simulated else torch.cuda.get_device_name()
total_vram = (80 * 1024**3 if simulated else torch.cuda.mem_get_info()[1]) / 1024**2
VRAMState = Enum("VRAMState", ["DISABLED", "NO_VRAM", "LOW_VRAM", "NORMAL_VRAM", "HIGH_VRAM"], start=0)
_asked = [x for x in VRAMState if getattr(args, f"always_{x.name.lower()}", False)]
vram_state = (_asked or [VRAMState.NORMAL_VRAM])[0]
ALWAYS_VRAM_OFFLOAD = args.always_offload_from_vram
PIN_SHARED_MEMORY = args.pin_shared_memory
current_inference_memory = 1024**3
current_loaded_models = []

def minimum_inference_memory(): return current_inference_memory

def get_torch_device():
    return second_device.CARD if simulated and not _no_stand_in else torch.device("cpu" if simulated else "cuda", 0)

def unet_offload_device(): return get_torch_device() if vram_state == VRAMState.HIGH_VRAM else cpu
def unet_inital_load_device(parameters, dtype): return unet_offload_device()

def get_free_memory(dev=None, torch_free_too=False):
    used = sum(x.model.size for x in current_loaded_models) if _no_stand_in else second_device.taken()
    free = total_vram * 1024**2 - used if simulated else torch.cuda.mem_get_info(dev)[0]
    return (free, free) if torch_free_too else free

def soft_empty_cache(force=False): torch.cuda.empty_cache()
def bake_gguf_model(model): return model  # there are no GGUF files here

def module_size(module, exclude_device=None, include_device=None, return_split=False):
    """Bytes; split: all of them, those of `weight`, the others."""
    size = {k: p.nbytes for k, p in module.named_parameters()
            if p.device != exclude_device and include_device in (None, p.device)}
    whole, weight = sum(size.values()), size.get("weight", 0)
    return (whole, weight, whole - weight) if return_split else whole

def build_module_profile(model, model_gpu_memory_when_using_cpu_swap):
    """Layers that go to the device wholly, in part (here none does), not at all."""
    own = [x for x in model.modules() if next(x.parameters(recurse=False), None) is not None]
    swappable, room = [x for x in own if hasattr(x, "parameters_manual_cast")], model_gpu_memory_when_using_cpu_swap
    whole = [x for x in own if x not in swappable]
    for layer in own:
        layer.total_mem, layer.weight_mem, layer.extra_mem = module_size(layer, return_split=True)
        room -= 0 if layer in swappable else layer.total_mem
    for layer in swappable:
        if layer.total_mem <= room:
            room -= layer.total_mem
            whole.append(layer)
    return whole, [], [x for x in swappable if x not in whole]

def compute_model_gpu_memory_when_using_cpu_swap(current_free_mem, inference_memory):
    return int(max(0, (current_free_mem - inference_memory) / 1.3))

class LoadedModel:
    """One model on the device, from `model_load` to `model_unload`."""

    def __init__(self, model):
        self.model, self.device, self.inclusive_memory, self.exclusive_memory = model, model.load_device, 0, 0

    def compute_inclusive_exclusive_memory(self):
        self.inclusive_memory = module_size(self.model.model, include_device=self.device)
        self.exclusive_memory = module_size(self.model.model, exclude_device=self.device)

    def model_load(self, model_gpu_memory_when_using_cpu_swap=-1):
        swaps = model_gpu_memory_when_using_cpu_swap >= 0
        self.real_model = self.model.forge_patch_model(None if swaps else self.device)
        if swaps:
            here, _, at_home = build_module_profile(self.real_model, model_gpu_memory_when_using_cpu_swap)
            for layer in here:
                layer.to(self.device)
            for layer in at_home:
                layer.prev_parameters_manual_cast, layer.parameters_manual_cast = False, True
                layer.to(self.model.offload_device)
        self.model.current_device = self.device
        bake_gguf_model(self.real_model)
        self.model.refresh_loras()
        return self.real_model

    def model_unload(self, avoid_model_moving=False):
        for layer in self.model.model.modules():
            if vars(layer).pop("prev_parameters_manual_cast", None) is not None:
                layer.parameters_manual_cast = False
        self.model.forge_unpatch_model(None if avoid_model_moving else self.model.offload_device)

def free_memory(memory_required, device, keep_loaded=[], free_all=False):  # noqa: B006
    """Unloads models, the longest unused first, until `memory_required` bytes are free."""
    for loaded in current_loaded_models[::-1]:
        enough = get_free_memory(device) > memory_required and not ALWAYS_VRAM_OFFLOAD
        if loaded not in keep_loaded and (free_all or not enough):
            current_loaded_models.remove(loaded)
            loaded.model_unload()
    soft_empty_cache()

def load_models_gpu(models, memory_required=0, hard_memory_preservation=0):
    """Brings the models to their devices and makes room first; what does not fit is swapped, layer by layer."""
    for_inference = minimum_inference_memory() + hard_memory_preservation
    to_free = max(minimum_inference_memory(), memory_required) + hard_memory_preservation
    current_loaded_models.sort(key=lambda x: x.model not in models)  # the last used first
    here = [x for x in current_loaded_models if x.model in models]
    for model in models:
        for clone in [x for x in current_loaded_models if x.model.model is model.model and x.model is not model]:
            current_loaded_models.remove(clone)
            clone.model_unload(avoid_model_moving=True)
    coming = [LoadedModel(m) for m in models if all(x.model is not m for x in here)]
    for loaded in coming:
        loaded.compute_inclusive_exclusive_memory()
    free_memory(sum(x.exclusive_memory + x.inclusive_memory * 0.25 for x in coming) * 1.3 + to_free,
                get_torch_device(), here)
    for loaded in coming:
        free, room = get_free_memory(loaded.device), -1
        may_swap = vram_state in (VRAMState.LOW_VRAM, VRAMState.NORMAL_VRAM)
        if may_swap and free - loaded.exclusive_memory < for_inference:
            room = loaded.inclusive_memory or compute_model_gpu_memory_when_using_cpu_swap(free, for_inference)
        loaded.model_load(0 if vram_state == VRAMState.NO_VRAM else room)
        current_loaded_models.insert(0, loaded)

def load_model_gpu(model): return load_models_gpu([model])
def unload_all_models(): free_memory(1e30, get_torch_device(), free_all=True)
