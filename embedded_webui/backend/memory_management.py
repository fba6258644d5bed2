"""Which models are on the device, how much room it has, and who must leave. A model moves as a whole.

Without CUDA the device is `torch.device("cpu", 0)`: a second arena in RAM with the size of an 80 GB card.
It is a simulated device, our stand-in: moving to it really copies bytes, but no figure it gives is a GPU's.
"""
from enum import Enum
import torch
from backend.args import args

cpu = torch.device("cpu")
simulated = not torch.cuda.is_available()
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
def get_torch_device(): return torch.device("cpu" if simulated else "cuda", 0)

def get_free_memory(dev=None, torch_free_too=False):
    used = sum(loaded.model.size for loaded in current_loaded_models)
    free = total_vram * 1024**2 - used if simulated else torch.cuda.mem_get_info(dev)[0]
    return (free, free) if torch_free_too else free

def unet_inital_load_device(parameters, dtype): return cpu

def build_module_profile(model, model_gpu_memory_when_using_cpu_swap):
    """Layers that go to the device wholly, in part, not at all."""
    return list(model.modules()), [], []

def compute_model_gpu_memory_when_using_cpu_swap(current_free_mem, inference_memory):
    return int(max(0, (current_free_mem - inference_memory) / 1.3))

class LoadedModel:
    """One model on the device, from `model_load` to `model_unload`."""

    def __init__(self, model):
        self.model, self.device = model, model.load_device
        self.exclusive_memory = model.size  # bytes that are not there yet

    def model_load(self, model_gpu_memory_when_using_cpu_swap=-1):
        self.model.lora_loader.refresh(self.model.lora_patches)
        return self.model.forge_patch_model(self.device)

    def model_unload(self, avoid_model_moving=False):
        self.model.forge_unpatch_model(None if avoid_model_moving else self.model.offload_device)

def free_memory(memory_required, device, keep_loaded=[], free_all=False):  # noqa: B006
    """Unloads models, the longest unused first, until `memory_required` bytes are free."""
    for loaded in current_loaded_models[::-1]:
        enough = get_free_memory(device) >= memory_required and not ALWAYS_VRAM_OFFLOAD
        if loaded not in keep_loaded and (free_all or not enough):
            loaded.model_unload()
            current_loaded_models.remove(loaded)
    torch.cuda.empty_cache()

def load_models_gpu(models, memory_required=0, hard_memory_preservation=0):
    """Brings the models to their devices and makes room first."""
    to_free = max(minimum_inference_memory(), memory_required) + hard_memory_preservation
    current_loaded_models.sort(key=lambda x: x.model not in models)  # the last used first
    here = [x for x in current_loaded_models if x.model in models]
    for loaded in [LoadedModel(m) for m in models if all(x.model is not m for x in here)]:
        free_memory(loaded.exclusive_memory * 1.3 + to_free, loaded.device, here)
        loaded.model_load()
        current_loaded_models.insert(0, loaded)
        here.append(loaded)

def unload_all_models(): free_memory(0, get_torch_device(), free_all=True)
