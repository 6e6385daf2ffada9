"""As much of HTTP/2 as the checks need: frames written by hand, cleartext with prior knowledge."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from .wire import exchange

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
HEAD_BYTES = 9
SECONDS_MAX = 10.0
GET_ROOT = b"\x82\x84\x86\x41\x09localhost"


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as received; `size` is what its head says, the payload may still be shorter."""

    kind: int
    flags: int
    stream: int
    payload: bytes
    size: int


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return the bytes of a frame."""
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def frames_read(received: bytes) -> Iterator[Frame]:
    """Yield the frames in `received`; the last may be cut off."""
    at = 0
    while at + HEAD_BYTES <= len(received):
        size = int.from_bytes(received[at : at + 3], "big")
        kind, flags, stream = struct.unpack_from("!BBI", received, at + 3)
        yield Frame(kind, flags, stream & 0x7FFFFFFF, received[at + HEAD_BYTES : at + HEAD_BYTES + size], size)
        at += HEAD_BYTES + size


class Connection:
    """One connection that stays open between requests."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS_MAX)
        self._socket.sendall(PREFACE + frame(SETTINGS, 0, 0))
        self._stream = -1

    def get_root(self) -> bytes:
        """Ask for `/` and return the body."""
        self._stream += 2
        self._socket.sendall(frame(HEADERS, END_HEADERS | END_STREAM, self._stream, GET_ROOT))
        received = b""
        while True:
            answered = [f for f in frames_read(received) if f.stream == self._stream and len(f.payload) == f.size]
            if any(f.kind in (DATA, HEADERS) and f.flags & END_STREAM for f in answered):
                return b"".join(f.payload for f in answered if f.kind == DATA)
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("the server closed the connection")
            received += data

    def close(self) -> None:
        """End it."""
        self._socket.close()


def reset_flood(port: int, streams: int) -> str:
    """Open and reset `streams` streams in one write; say whether the server ends the connection."""
    parts = [PREFACE, frame(SETTINGS, 0, 0)]
    for number in range(1, 2 * streams, 2):
        parts.append(frame(HEADERS, END_HEADERS | END_STREAM, number, GET_ROOT))
        parts.append(frame(RST_STREAM, 0, number, struct.pack("!I", 8)))
    answered = list(frames_read(exchange(port, b"".join(parts), seconds_max=0.7)))
    if not answered:
        return "nothing"
    return "goaway" if any(f.kind == GOAWAY for f in answered) else "accepted"
