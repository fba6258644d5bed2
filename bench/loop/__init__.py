"""The parts of forge_loop.py: the parent, its child of each variant, and what a child does with Forge."""
