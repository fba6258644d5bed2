"""Which decoder a device gets, and where packed weights pay there: measured once, before anybody needs it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from ...stats.report import speed
from .decoding import PLAIN, Decoder, checksum, unpack
from .form import BLOCK, Form, encode

GAIN = 0.9
"""Seconds with packed weights, of those without, that are worth it."""
SHARE = 0.75
"""Bytes of packed weights, of their bytes."""
DISK = 7e9
"""Bytes a second that no disk brings: where files are cold, decoding need not keep up with more."""
KINDS = frozenset({"cuda"})
_BLOCKS = 128
_COPY = 64 << 20
_ROUNDS = 5
_LAYER, _IN_A_ROW = 3072 * 18432 * 2, 4
_log = logging.getLogger("flux_speedup")


def candidates() -> list[Decoder]:
    """What there is in this process."""
    found = [PLAIN]
    try:
        from .kernel import TRITON
    except Exception as error:  # not there, or not for this Python, compiler, driver
        _log.debug("no Triton kernels for packed weights (%s)", error)
    else:
        found.append(TRITON)
    return found


class Choice:
    """The decoder of one device. `find` is called once, off everybody's way; the rest from any thread."""

    def __init__(
        self,
        candidates: Callable[[], Sequence[Decoder]] = candidates,
        bus: Callable[[torch.device], float] | None = None,
        kinds: frozenset[str] = KINDS,
    ) -> None:
        """`bus`: bytes a second from pinned RAM to the device. `kinds`: of devices that are asked at all."""
        self._candidates = candidates
        self._measure = bus or _bus
        self._kinds = kinds
        self._lock = threading.Lock()
        self.device: torch.device | None = None
        self.decoder: Decoder | None = None
        self.bus = 0.0

    def find(self, device: torch.device) -> Decoder | None:
        """Measure; the fastest that is right, None where there is none or the device is of another kind."""
        with self._lock:
            if self.device == device or device.type not in self._kinds:
                return self.decoder
            found: tuple[Decoder | None, float] = None, 0.0
            try:
                found = _fastest(self._candidates(), device), self._measure(device)
            finally:
                (self.decoder, self.bus), self.device = found, device
        if self.decoder is not None:
            rates = speed(self.decoder.rate / 1e9), speed(self.bus / 1e9)
            said = "packed weights: decoded by %s operations on %s at %s, its bus brings %s"
            _log.info(said, self.decoder.name, device, *rates)
        return self.decoder

    def for_loads(self, device: torch.device, *, cold: bool) -> Decoder | None:
        """For a load, whose copies and decoding go side by side. `cold`: the weights come from a disk."""
        source = min(self.bus, DISK) if cold else self.bus
        found = self._of(device)
        return found if found is not None and GAIN * found.rate >= source else None

    def pays_cold(self) -> bool:
        """Whether loads from a disk will read packed weights; yes until that was measured."""
        return self.device is None or self.for_loads(self.device, cold=True) is not None

    def for_streaming(self, device: torch.device) -> Decoder | None:
        """For what streams, while others compute: decoding takes from their time."""
        found = self._of(device)
        return found if found is not None and SHARE + self.bus / found.rate <= GAIN else None

    def _of(self, device: torch.device) -> Decoder | None:
        return self.decoder if device == self.device else None


def _fastest(candidates: Sequence[Decoder], device: torch.device) -> Decoder | None:
    numbers = np.random.default_rng(16).standard_normal(_BLOCKS * BLOCK + 7, np.float32) * 0.02
    weights = torch.from_numpy(numbers).to(torch.bfloat16).view(torch.int16)
    made = encode(weights.numpy().view(np.uint16))
    assert made is not None
    form, packed = made[0], torch.from_numpy(made[1])
    there, wanted, total = packed.to(device), weights.to(device), int(checksum(packed))
    memory = torch.empty(form.size, dtype=torch.uint8, device=device)

    def check(decoder: Decoder) -> None:
        memory.zero_()[form.size - form.length :].copy_(there)
        right = int(unpack(memory, form, decoder)) == total
        if not right or not torch.equal(memory.view(torch.int16), wanted):
            raise ValueError("they decode wrongly")

    found: list[Decoder] = []
    for one in candidates:
        try:
            check(one)
            found.append(
                replace(one, rate=_rate(one, device, _LAYER if device.type == "cuda" else form.size))
            )
        except Exception as error:  # a kernel that does not compile here, a device that lacks an operation
            _log.info("packed weights: no %s operations on %s (%s)", one.name, device, error)
    return max(found, key=lambda one: one.rate, default=None)


def _rate(decoder: Decoder, device: torch.device, size: int) -> float:
    """Bytes of weights a second, of tensors of `size` bytes, queued one after the other; of whatever bytes."""
    form = Form(size, size >> 13)
    memory = torch.zeros(size, dtype=torch.uint8, device=device)
    best = float("inf")
    for _ in range(_ROUNDS):
        _done(device)
        begun = time.perf_counter()
        for _ in range(_IN_A_ROW):
            unpack(memory, form, decoder)
        _done(device)
        best = min(best, (time.perf_counter() - begun) / _IN_A_ROW)
    return size / best


def _bus(device: torch.device) -> float:
    source = torch.empty(_COPY, dtype=torch.uint8, pin_memory=device.type == "cuda")
    target = torch.empty(_COPY, dtype=torch.uint8, device=device)
    best = 0.0
    for _ in range(_ROUNDS):
        _done(device)
        begun = time.perf_counter()
        target.copy_(source, non_blocking=True)
        _done(device)
        best = max(best, _COPY / (time.perf_counter() - begun))
    return best


def _done(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
