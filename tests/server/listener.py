"""Servers that webhooks are told to: one that answers, and one that never gets to the end of its answer."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


class Listener:
    """Takes what is told; `status` is what it answers."""

    def __init__(self) -> None:
        self.status, self.taken = 200, list[tuple[str, bytes]]()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.taken.append((self.headers["Hotmend-Signature"], body))
                self.send_response(listener.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class Dripper:
    """Begins to answer whoever asks, and then sends the same bytes again and again.

    Args:
        begin: what it sends at first.
        again: what it sends then, for ever.
    """

    def __init__(self, begin: bytes = b"HTTP/1.1 200 OK\r\nX-Drip: ", again: bytes = b"x") -> None:
        self.asked = threading.Semaphore(0)
        self._begin, self._again = begin, again
        self._closed = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/hook"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self._threads.append(threading.Thread(target=self._drip, args=[connection]))
                self._threads[-1].start()

    def _drip(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            self.asked.release()
            for part in itertools.chain([self._begin], itertools.repeat(self._again)):
                connection.sendall(part)
                if self._closed.wait(0.2):
                    return

    def close(self) -> None:
        self._closed.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for each in self._threads:
            each.join()
