"""Registers what stands for LoRAs in prompts."""
import extra_networks_lora
from modules import extra_networks, script_callbacks

script_callbacks.on_before_ui(lambda: extra_networks.register_extra_network(extra_networks_lora.ExtraNetworkLora()))
