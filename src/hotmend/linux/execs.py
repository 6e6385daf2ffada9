"""Which process has just become another program: told by the kernel's process connector.

The connector tells after the new program is in place and before it runs; it does not wait for anybody. It serves only
the first user and process namespaces, and root there. Events can be lost when they come faster than they are read.
"""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

_CONNECTOR = 11
_PROCESSES, _LISTEN, _IGNORE = 1, 1, 2
_NONE, _EXEC = 0, 2
_HEAD = struct.Struct("=IHHII")  # nlmsghdr
_MESSAGE = struct.Struct("=IIIIHH")  # cn_msg
_EVENT = struct.Struct("=IIQ")  # proc_event: what, processor, nanoseconds
_PAIR = struct.Struct("=ii")
_DONE = 3
_WHAT_OFFSET = _HEAD.size + _MESSAGE.size
_ATTACH_FILTER = 26
_BUFFER_BYTES, _DATAGRAM_BYTES = 1 << 20, 4096
_ANSWER_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Exec:
    """A process that called execve; `at_ns` is on the clock of `time.monotonic_ns`."""

    pid: int
    at_ns: int


class ExecEvents:
    """The connector's events, from the moment it is made on."""

    def __init__(self) -> None:
        """Begin to listen.

        Raises:
            OSError: the kernel does not tell us.
        """
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _CONNECTOR)
        try:
            self._begin()
        except OSError:
            self._socket.close()
            raise

    def _begin(self) -> None:
        self._socket.setblocking(False)
        self._socket.bind((0, _PROCESSES))
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._tell(_LISTEN)
        self._await_answer()
        self._filter()

    def _tell(self, wish: int) -> None:
        body = _MESSAGE.pack(_PROCESSES, 1, 0, 0, 4, 0) + struct.pack("=I", wish)
        self._socket.send(_HEAD.pack(_HEAD.size + len(body), _DONE, 0, 0, 0) + body)

    def _await_answer(self) -> None:
        """Wait for the kernel's word that it tells us; outside of the first namespaces it is silent."""
        limit = time.monotonic() + _ANSWER_SECONDS
        while (left := limit - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left)[0]:
                break
            for what, _, rest in _events(self._socket.recv(_DATAGRAM_BYTES)):
                if what != _NONE:
                    continue
                error = int.from_bytes(rest[:4], "little")
                if error:
                    raise OSError(error, os.strerror(error))
                return
        raise OSError("the process connector does not answer (another namespace?)")

    def _filter(self) -> None:
        """Have the kernel drop what is no exec: a socket filter that looks at the event's first word."""
        wanted = int.from_bytes(_EXEC.to_bytes(4, "little"), "big")  # filters load words big-endian
        program = ((0x20, 0, 0, _WHAT_OFFSET), (0x15, 0, 1, wanted), (0x06, 0, 0, 0xFFFFFFFF), (0x06, 0, 0, 0))
        code = array.array("B", b"".join(struct.pack("=HBBI", *step) for step in program))
        address, _ = code.buffer_info()
        # Without it every event is read here: slower, not wrong.
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HxxxxxxQ", len(program), address))

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._socket.fileno()

    def read(self) -> tuple[list[Exec], bool]:
        """Return what was told since the last time, and whether events were lost."""
        found: list[Exec] = []
        lost = False
        while True:
            try:
                datagram = self._socket.recv(_DATAGRAM_BYTES)
            except BlockingIOError:
                return found, lost
            except OSError:  # ENOBUFS: the buffer ran over
                lost = True
                continue
            for what, at_ns, rest in _events(datagram):
                if what == _EXEC and len(rest) >= _PAIR.size:
                    found.append(Exec(_PAIR.unpack_from(rest)[1], at_ns))

    def close(self) -> None:
        """Stop listening. Before Linux 6.6 the kernel counts listeners by what they say, not by their sockets."""
        with contextlib.suppress(OSError):
            self._tell(_IGNORE)
        self._socket.close()


def _events(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield kind, time and the rest of each event in a datagram."""
    position = 0
    while position + _WHAT_OFFSET + _EVENT.size <= len(datagram):
        size = _HEAD.unpack_from(datagram, position)[0]
        what, _, at_ns = _EVENT.unpack_from(datagram, position + _WHAT_OFFSET)
        yield what, at_ns, datagram[position + _WHAT_OFFSET + _EVENT.size : position + size]
        if size < _HEAD.size:
            return
        position += size + 3 & -4
