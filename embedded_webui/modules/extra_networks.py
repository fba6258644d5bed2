"""What a prompt asks for in angle brackets: `<lora:name:1>`."""
import re
from collections import defaultdict

extra_network_registry = {}

class ExtraNetworkParams:
    def __init__(self, items=None):
        self.items = self.positional = items or []

class ExtraNetwork:
    def __init__(self, name): self.name = name

def register_extra_network(extra_network): extra_network_registry[extra_network.name] = extra_network

def parse_prompts(prompts):
    """The prompts without it, and what was in it, by kind."""
    found = defaultdict(list)
    for kind, items in re.findall(r"<(\w+):([^>]+)>", prompts[0]):
        found[kind].append(ExtraNetworkParams(items.split(":")))
    return [re.sub(r"<\w+:[^>]+>", "", x) for x in prompts], found

def activate(p, extra_network_data):
    for name, extra_network in extra_network_registry.items():
        extra_network.activate(p, extra_network_data[name])
