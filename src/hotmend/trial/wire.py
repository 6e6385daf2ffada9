"""Messages between hotmend and the first process of a cell: JSON with its length in front, over a socket."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

MESSAGE_BYTES_MAX = 64 << 20
_LENGTH = struct.Struct("<I")


def send(channel: socket.socket, message: dict[str, Any]) -> None:
    """Send one message."""
    content = json.dumps(message, ensure_ascii=True).encode("ascii")
    channel.sendall(_LENGTH.pack(len(content)) + content)


def receive(channel: socket.socket) -> dict[str, Any] | None:
    """Return the next message; None when the other side is gone."""
    head = _read(channel, _LENGTH.size)
    if head is None:
        return None
    (size,) = _LENGTH.unpack(head)
    content = _read(channel, size) if size <= MESSAGE_BYTES_MAX else None
    if content is None:
        return None
    message: dict[str, Any] = json.loads(content)
    return message


def _read(channel: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        try:
            part = channel.recv(min(size - len(parts), 1 << 20))
        except ConnectionError:
            return None
        if not part:
            return None
        parts += part
    return bytes(parts)
