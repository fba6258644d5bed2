"""Which decoder a device gets, and where packed weights pay there: measured once, before anybody needs it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ...stats.report import speed
from .decoding import PLAIN, Decoder, checksum, unpack
from .encoding import encode
from .form import BLOCK, Form

GAIN = 0.9
"""Seconds with packed weights, of those without, that are worth it."""
SHARE = 0.75
"""Bytes of packed weights, of their bytes."""
STAGED = 5
"""So many times as long decoding takes of what comes through staging slots, as readers and who queues it wait for
each other: a step on an H200, whose bus brings 53 GB/s and which decodes 550, took 1.23 of the time without."""
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
    try:
        from .kernel import TRITON
    except Exception as error:  # not there, or not for this Python, compiler, driver
        _log.debug("no Triton kernels for packed weights (%s)", error)
        return [PLAIN]
    return [PLAIN, TRITON]


def _fastest(candidates: Sequence[Decoder], device: torch.device) -> Decoder:
    numbers = np.random.default_rng(16).standard_normal(_BLOCKS * BLOCK + 7, np.float32) * 0.02
    weights = torch.from_numpy(numbers).to(torch.bfloat16).view(torch.int16)
    made = encode(weights.numpy().view(np.uint16))
    assert made is not None
    form, packed = made[0], torch.from_numpy(made[1])
    there, wanted, total = packed.to(device), weights.to(device), int(checksum(packed))
    memory = torch.empty(form.size, dtype=torch.uint8, device=device)
    found = [PLAIN]
    for one in candidates:
        try:
            memory.zero_()[form.size - form.length :].copy_(there)
            summed = unpack(memory, form, one)
            if summed is not None and int(summed) == total and torch.equal(memory.view(torch.int16), wanted):
                found.append(replace(one, rate=_rate(one, device)))
            else:
                _log.warning("packed weights: %s operations decode wrongly on %s", one.name, device)
        except Exception as error:  # a kernel that does not compile here, a device that lacks an operation
            _log.info("packed weights: no %s operations on %s (%s)", one.name, device, error)
    return max(found, key=lambda one: one.rate)


def _rate(decoder: Decoder, device: torch.device) -> float:
    """Bytes of weights a second, of tensors as large as layers, queued one after the other; of whatever bytes."""
    size = _LAYER if device.type == "cuda" else _COPY // 4
    form, memory = Form(size, size >> 13), torch.zeros(size, dtype=torch.uint8, device=device)
    in_a_row = range(_IN_A_ROW)
    seconds = _seconds(device, lambda: [unpack(memory, form, decoder) for _ in in_a_row])
    return size * len(in_a_row) / seconds


def _bus(device: torch.device) -> float:
    source = torch.empty(_COPY, dtype=torch.uint8, pin_memory=device.type == "cuda")
    target = torch.empty(_COPY, dtype=torch.uint8, device=device)
    return _COPY / _seconds(device, lambda: target.copy_(source, non_blocking=True))


def _seconds(device: torch.device, act: Callable[[], object]) -> float:
    """Of the best of some rounds."""
    wait = torch.cuda.current_stream(device).synchronize if device.type == "cuda" else lambda: None
    found = []
    for _ in range(_ROUNDS):
        wait()
        begun = time.perf_counter()
        act()
        wait()
        found.append(time.perf_counter() - begun)
    return min(found)


@dataclass(eq=False)
class Choice:
    """The decoder of one device, whose rate is 0 until one was found. `find` is called once, off everybody's way;
    the rest from any thread.

    `measure`: bytes a second from pinned RAM to a device. `kinds`: of devices that are asked at all.
    """

    candidates: Callable[[], Sequence[Decoder]] = candidates
    measure: Callable[[torch.device], float] = _bus
    kinds: frozenset[str] = KINDS
    device: torch.device | None = None
    decoder: Decoder = PLAIN
    bus: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, device: torch.device) -> None:
        """Measure: the fastest that is right, where the device is of a kind that is asked."""
        with self._lock:
            if self.device == device or device.type not in self.kinds:
                return
            self.decoder = PLAIN
            try:
                found, self.bus = _fastest(self.candidates(), device), self.measure(device)
                self.decoder = found
            finally:
                self.device = device
        if found.rate:
            rates = speed(found.rate / 1e9), speed(self.bus / 1e9)
            said = "packed weights: decoded by %s operations on %s at %s, its bus brings %s"
            _log.info(said, found.name, device, *rates)

    def pays_loading(self, device: torch.device, *, cold: bool) -> bool:
        """In a load copies and decoding go side by side. `cold`: the weights come from a disk."""
        rate, source = self._rate(device), min(self.bus, DISK) if cold else self.bus
        return rate > 0 and GAIN * rate >= source

    def pays_cold(self) -> bool:
        """Whether loads from a disk will read packed weights; yes until that was measured."""
        return self.device is None or self.pays_loading(self.device, cold=True)

    def pays_streaming(self, device: torch.device, *, staged: bool = False) -> bool:
        """What streams comes while others compute: decoding takes from their time. `staged`: not from registered
        pages, but through staging slots, from RAM; so for loads, too.
        """
        rate = self._rate(device)
        return rate > 0 and SHARE + (STAGED if staged else 1) * self.bus / rate <= GAIN

    def _rate(self, device: torch.device) -> float:
        return self.decoder.rate if device == self.device else 0.0
