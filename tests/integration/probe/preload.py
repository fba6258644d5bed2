"""Test extension, loaded before ours: where the test asks for it, this WebUI believes in an 80 GB card."""

import os


def preload(parser):
    gib = float(os.environ.get("PROBE_CARD_GIB", "0"))
    if gib:
        from backend import memory_management, stream

        memory_management.vram_state = memory_management.VRAMState.NORMAL_VRAM
        memory_management.total_vram = gib * 1024
        memory_management.get_free_memory = lambda dev=None, torch_free_too=False: (
            (gib * 2**30, gib * 2**30) if torch_free_too else gib * 2**30
        )
        stream.current_stream = stream.mover_stream = "a stream, as far as this test goes"
