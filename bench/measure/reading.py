"""Bytes read by several threads, into buffers that nobody looks at."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

# Where the bytes begin, in order, and how many: at most a buffer full.
Piece = tuple[int, int]


def read_pieces(
    read_into: Callable[[int, memoryview], None], pieces: Iterable[Piece], threads: int, buffer_size: int
) -> None:
    """Each thread takes the next piece that nobody has taken; `read_into(offset, buffer)` fills its buffer."""
    left = iter(pieces)
    lock = threading.Lock()

    def read() -> None:
        buffer = memoryview(bytearray(buffer_size))
        while True:
            with lock:
                piece = next(left, None)
            if piece is None:
                return
            offset, length = piece
            read_into(offset, buffer[:length])

    workers = [threading.Thread(target=read) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
