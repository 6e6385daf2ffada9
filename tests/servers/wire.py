"""Raw requests on loopback: what a check sends byte by byte and what came back."""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass

ANSWER_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP/1 answer. `status` is 0 when nothing that looks like HTTP came back.

    Attributes:
        status: status code.
        head: header lines as received.
        body: what followed, as received (not de-chunked).
        seconds: time until the end of the answer.
    """

    status: int
    head: str
    body: bytes
    seconds: float


def exchange(port: int, request: bytes, seconds_max: float = 5.0) -> bytes:
    """Send `request`, return everything until the peer closes, falls silent or time is up."""
    received = bytearray()
    deadline = time.monotonic() + seconds_max
    with socket.create_connection(("127.0.0.1", port), timeout=seconds_max) as link:
        with contextlib.suppress(OSError):
            link.sendall(request)
        while len(received) < ANSWER_BYTES_MAX:
            link.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                part = link.recv(65536)
            except OSError:
                break
            if not part:
                break
            received += part
    return bytes(received)


def http_send(port: int, request: bytes, seconds_max: float = 5.0) -> Answer:
    """Send a whole HTTP/1 request, as is, and read the answer. The request should ask to close."""
    start = time.monotonic()
    received = exchange(port, request, seconds_max)
    head, _, body = received.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    status = int(words[1]) if len(words) > 1 and words[0].startswith(b"HTTP/") and words[1].isdigit() else 0
    return Answer(status, head.decode("latin-1"), body, time.monotonic() - start)


def http_get(port: int, target: str, *headers: str, method: str = "GET", body: bytes = b"") -> Answer:
    """Send a request line for `target` exactly as given; `headers` are whole lines."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return http_send(port, "\r\n".join([*lines, "", ""]).encode("latin-1") + body)
