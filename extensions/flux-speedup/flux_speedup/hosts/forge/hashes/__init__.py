"""Forge's hashes of checkpoints and LoRAs, waited for where they are written and not where models are loaded."""
