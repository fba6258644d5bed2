"""LoRAs by name, and the model with them."""
from pathlib import Path
import network
from backend.loader import load_torch_file
from backend.patcher.lora import load_lora, model_lora_keys_unet
from modules import paths, sd_models

available_networks, loaded_networks = {}, []

def list_available_networks():
    for path in Path(paths.models_path, "Lora").glob("*.safetensors"):
        available_networks.setdefault(path.stem, network.NetworkOnDisk(path.stem, str(path)))

def load_networks(names, te_multipliers=None, unet_multipliers=None, dyn_dims=None):
    """The model of the next image has these and no others; a name that is no file's is left out."""
    list_available_networks()
    loaded_networks[:] = [network.Network(x, available_networks[x]) for x in names if x in available_networks]
    for each in loaded_networks:
        each.network_on_disk.read_hash()
    model = sd_models.model_data.get_sd_model()
    wanted = [(available_networks[name].filename, weight, 1.0, False)
              for name, weight in zip(names, unet_multipliers, strict=True) if name in available_networks]
    if model.current_lora_hash != str(wanted):
        objects = model.forge_objects_original.shallow_copy()
        for filename, weight, *_ in wanted:
            objects.unet = objects.unet.clone()
            patches, _ = load_lora(load_torch_file(filename), model_lora_keys_unet(objects.unet.model))
            objects.unet.add_patches(filename=filename, patches=patches, strength_patch=weight)
        model.forge_objects_after_applying_lora, model.current_lora_hash = objects, str(wanted)
