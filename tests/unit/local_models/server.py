"""A server of files on 127.0.0.1 that misbehaves as it is told: one behaviour a request, the last one stays."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.waiting import PATIENCE_S

Act = Callable[["Handler", "File"], None]


@dataclass
class File:
    """What lies at one path, how it is served, and which ranges were asked for."""

    content: bytes
    acts: list[Act]
    ranges: list[str | None] = field(default_factory=list)

    def next_act(self) -> Act:
        return self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()}"'


class Handler(BaseHTTPRequestHandler):
    """Speaks for the files of its server."""

    files: dict[str, File]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        file = self.files.get(self.path.split("?")[0])
        if file is None:
            self.send_error(404)
            return
        file.ranges.append(self.headers.get("Range"))
        file.next_act()(self, file)

    def do_HEAD(self) -> None:
        # As Hugging Face answers its library.
        file = self.files.get(self.path.split("?")[0])
        if file is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("ETag", file.etag)
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("Content-Length", str(len(file.content)))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return

    def begin(self, file: File, *, ranges: bool = True) -> bytes:
        """Send the head of an answer; what its body has to be."""
        wanted = self.headers.get("Range") if ranges else None
        fits = self.headers.get("If-Range") in (None, file.etag)
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted and fits else 0
        whole = len(file.content)
        if start and start >= whole:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{whole}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return b""
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        self.send_header("ETag", file.etag)
        self.send_header("Content-Length", str(whole - start))
        self.end_headers()
        return file.content[start:]


def whole(handler: Handler, file: File) -> None:
    """As it should be, ranges included."""
    handler.wfile.write(handler.begin(file))


def no_ranges(handler: Handler, file: File) -> None:
    """The whole file whatever was asked for."""
    handler.wfile.write(handler.begin(file, ranges=False))


def cut(after: int) -> Act:
    """The connection ends after so many bytes of the body."""

    def act(handler: Handler, file: File) -> None:
        handler.wfile.write(handler.begin(file)[:after])
        handler.close_connection = True

    return act


def status(code: int, **headers: str) -> Act:
    """An answer without the file."""

    def act(handler: Handler, file: File) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return act


def instead(content: bytes) -> Act:
    """Another file."""

    def act(handler: Handler, file: File) -> None:
        handler.wfile.write(handler.begin(File(content, [])))

    return act


def drip(piece: int, pause: float) -> Act:
    """So many bytes at a time, with a pause between them."""

    def act(handler: Handler, file: File) -> None:
        body = handler.begin(file)
        for start in range(0, len(body), piece):
            try:
                handler.wfile.write(body[start : start + piece])
            except OSError:
                handler.close_connection = True
                return
            time.sleep(pause)

    return act


def until(event: threading.Event) -> Act:
    """Half of the file, the rest once it is said."""

    def act(handler: Handler, file: File) -> None:
        body = handler.begin(file)
        handler.wfile.write(body[: len(body) // 2])
        event.wait(PATIENCE_S)
        handler.wfile.write(body[len(body) // 2 :])

    return act


def silence(seconds: float) -> Act:
    """The head, and then nothing."""

    def act(handler: Handler, file: File) -> None:
        handler.begin(file)
        time.sleep(seconds)
        handler.close_connection = True

    return act


def wrong_range(handler: Handler, file: File) -> None:
    """Another range than was asked for."""
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes 7-8/{len(file.content)}")
    handler.send_header("Content-Length", "2")
    handler.end_headers()
    handler.wfile.write(file.content[7:9])


@contextmanager
def serving(files: dict[str, File]) -> Iterator[str]:
    """The address of a server with these files."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"files": files}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
