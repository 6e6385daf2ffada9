"""A web server on the loopback that serves a folder, and that misbehaves as a test says."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_PIECE_BYTES = 1 << 16


class Web:
    """What is served, and how.

    Attributes:
        address: of the server.
        folder: that is served.
        endless: suffix of the one path that never ends.
        drip: suffix of the one path that comes byte by byte, until the client has had enough.
        cut: after how many requests the line is dead: half of that answer arrives, then a reset.
        requests, sent: answered so far, and bytes of the endless answer.
    """

    def __init__(self, folder: Path) -> None:
        self.address = ""
        self.folder = folder
        self.endless = self.drip = " "
        self.cut: int | None = None
        self.requests = self.sent = 0
        self.closing = threading.Event()

    def answer(self, path: str, handler: BaseHTTPRequestHandler) -> None:
        file = self.folder / path.lstrip("/")
        content = file.read_bytes() if file.is_file() else b""
        self.requests += 1
        handler.send_response(200 if file.is_file() else 404)
        handler.send_header("Content-Length", str(len(content))) if self.cut is not None else None
        handler.end_headers()
        if self.cut is not None and self.requests > self.cut:
            handler.wfile.write(content[: len(content) // 2])
            # No time to linger: the client gets a reset and not an end.
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
            return
        if path.endswith(self.drip):
            while not self.closing.wait(0.01):
                handler.wfile.write(b" ")
                handler.wfile.flush()
        while path.endswith(self.endless):
            handler.wfile.write(bytes(_PIECE_BYTES))
            self.sent += _PIECE_BYTES
        handler.wfile.write(content)


class _Handler(BaseHTTPRequestHandler):
    web: Web

    def do_GET(self) -> None:
        try:
            self.web.answer(self.path, self)
        except (OSError, ValueError):
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that was cut cannot be closed once more."""


@contextmanager
def web_serve(folder: Path) -> Iterator[Web]:
    """Serve a folder until the block ends."""
    web = Web(folder)
    handler = type("Handler", (_Handler,), {"web": web})
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        web.address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield web
        finally:
            web.closing.set()
            server.shutdown()
            thread.join()
