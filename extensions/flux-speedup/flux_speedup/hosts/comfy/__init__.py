"""What Forge Neo and reForge share: a memory manager of Comfy's lineage."""
