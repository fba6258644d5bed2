"""Where a host of Comfy's lineage keeps what is taken over: the same functions under other names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Names:
    """Modules, and paths within them.

    manager: the memory manager. patcher: the module of `ModelPatcher`. build: module and function that build a
    checkpoint; reading: the module that its files are read in. operations, layers: what models are built of.
    initial_device: the manager's function that says where a transformer is built.
    """

    manager: str
    patcher: str
    build: tuple[str, str]
    reading: str
    operations: str
    layers: tuple[str, ...]
    initial_device: str
