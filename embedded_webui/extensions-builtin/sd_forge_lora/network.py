"""A LoRA: its file and its hash, which its first use computes."""
from modules import hashes

class NetworkOnDisk:
    def __init__(self, name, filename):
        self.name, self.filename, self.is_safetensors = name, filename, True
        self.hash = self.shorthash = ""

    def set_hash(self, v): self.hash, self.shorthash = v, v[:12]

    def read_hash(self):
        if not self.hash:
            self.set_hash(hashes.sha256(self.filename, f"lora/{self.name}", use_addnet_hash=True) or "")

class Network:
    def __init__(self, name, network_on_disk): self.name, self.network_on_disk = name, network_on_disk
