"""`<lora:name:weight>` in a prompt."""
import networks
from modules import extra_networks

class ExtraNetworkLora(extra_networks.ExtraNetwork):
    def __init__(self): super().__init__("lora")

    def activate(self, p, params_list):
        asked = [(x.positional[0], float(x.positional[1]) if len(x.positional) > 1 else 1.0) for x in params_list]
        networks.load_networks([name for name, _ in asked], None, [weight for _, weight in asked])
        if networks.loaded_networks:
            hashes = [f"{x.name}: {x.network_on_disk.shorthash}" for x in networks.loaded_networks]
            p.extra_generation_params["Lora hashes"] = ", ".join(hashes)
