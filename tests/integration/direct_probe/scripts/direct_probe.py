"""Test extension: what is read is registered by a stand-in for CUDA, and the simulated card counts as warmed up."""

import contextlib

from modules import script_callbacks

from flux_speedup.hosts.common import placing
from flux_speedup.weights import warming
from flux_speedup.weights.files.mapping import MAPPINGS
from flux_speedup.weights.transfer.direct import Direct
from flux_speedup.weights.transfer.held_memory import HeldMemory
from flux_speedup.weights.transfer.registration import Registrar

REGISTERED = {}
SEEN = {"calls": 0}
WEIGHTS = {"bytes": 0, "straight": 0}  # registered now; copied from there so far


def register(address, size):
    SEEN["calls"] += 1
    REGISTERED[address] = size
    return 0


def unregister(address):
    del REGISTERED[address]
    return 0


class Weights(HeldMemory):
    @contextlib.contextmanager
    def lend(self, items, first=0):
        with super().lend(items, first) as straight:
            WEIGHTS["straight"] += len(straight)
            yield straight


def made(**given):
    registrar = Registrar(register, unregister, 1 << 20)
    memory = Weights(registrar=Registrar(lambda *_: 0, lambda _: 0), least=1 << 10)
    return Direct(registrar=registrar, kinds=frozenset({"cpu"}), quiet_s=0.2, memory=memory, **given)


placing.Direct = made
warming.warm_up_soon = lambda device, then: then()


def on_app_started(_demo, app):
    @app.get("/probe/direct")
    def direct():
        """Bytes that are registered, how often something was, and files that are mapped for nobody."""
        from flux_speedup import app as ours

        WEIGHTS["bytes"] = ours._running._host._placing.direct._memory.bytes
        uses = {m.path.name: h.used for m in MAPPINGS.live() for h in held(ours, m)}
        return {
            **SEEN,
            "bytes": sum(REGISTERED.values()),
            "kept": len(MAPPINGS.kept),
            "used": uses,
            "weights": WEIGHTS,
        }

    def held(ours, mapping):
        found = ours._running._host._placing.direct._files.begun(mapping.identity)
        return [] if found is None else [found]


script_callbacks.on_app_started(on_app_started)
