"""haproxy with four threads, HTTP/1 and HTTP/2, answering by itself and from a small origin of its own."""

from __future__ import annotations

import socket
from pathlib import Path

from .checks import Check
from .http2 import PING, PREFACE, SETTINGS, frame, reset_flood
from .process import Server, ports_free, server_start
from .wire import http_send

LIBRARIES = ("liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1")
"""Run-time dependencies that are unpacked beside it."""

LIBRARY_FOLDER = "usr/lib/x86_64-linux-gnu"
THREADS = 4

CONFIG = """\
global
    nbthread {threads}
    maxconn 500
defaults
    mode http
    timeout connect 2s
    timeout client 3s
    timeout server 3s
    timeout http-request 3s
    timeout http-keep-alive 10s
frontend plain
    bind 127.0.0.1:{port}
    http-request return status 200 content-type text/plain string "hello" if {{ path / }}
    default_backend origin
frontend http2
    bind 127.0.0.1:{h2} proto h2
    http-request return status 200 content-type text/plain string "hello"
frontend origin
    bind 127.0.0.1:{origin}
    http-request return status 200 content-type text/plain string "origin"
backend origin
    server self 127.0.0.1:{origin}
"""


def haproxy_start(tree: Path, folder: Path) -> Server:
    """Start haproxy from an unpacked tree; its libraries are in `tree` too. The load goes to `/`."""
    port, h2, origin = ports_free(3)
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "haproxy.cfg"
    config.write_text(CONFIG.format(threads=THREADS, port=port, h2=h2, origin=origin))
    command = [str(tree / "usr/sbin/haproxy"), "-db", "-f", str(config)]
    libraries = {"LD_LIBRARY_PATH": str(tree / LIBRARY_FOLDER)}
    ports = {"h2": h2, "origin": origin}
    return server_start("haproxy", command, folder, port, environment=libraries, ports=ports)


LINE_BYTES = 20_000
"""More than the 16 KiB that a buffer holds, so the line can never become complete."""

HALF_CLOSED_SECONDS = 0.6
"""How long a check waits for the server to close; its own timeout is five times as long."""


def _chunk_line(server: Server, line_bytes: int) -> str:
    head = b"POST /origin HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = http_send(server.port, head + b"5;" + b"a" * line_bytes, seconds_max=0.6)
    return str(answer.status)


def _ping_half_closed(server: Server) -> str:
    partial = frame(PING, 0, 0, b"12345678")[:-1]
    with socket.create_connection(("127.0.0.1", server.ports["h2"]), timeout=HALF_CLOSED_SECONDS) as link:
        link.sendall(PREFACE + frame(SETTINGS, 0, 0) + partial)
        link.shutdown(socket.SHUT_WR)
        try:
            while link.recv(65536):
                pass
        except TimeoutError:
            return "held"
    return "closed"


CHECKS = (
    Check(
        "chunk-size-line-too-long",
        "",
        "A security fix (BUG/MAJOR) without a CVE id: a chunk-size line that no buffer can hold is waited for.",
        lambda server: _chunk_line(server, LINE_BYTES),
        old="200",
        new="400",
    ),
    Check(
        "http2-partial-ping",
        "",
        "A security fix (BUG/MAJOR) without a CVE id: a client that leaves in the middle of a PING frame is not "
        "noticed; a thread spins on its connection until the timeout.",
        _ping_half_closed,
        old="held",
        new="closed",
    ),
)

GUARDS = (
    Check(
        "chunk-size-line-short",
        "",
        "A chunk extension that fits is accepted by either build.",
        lambda server: _chunk_line(server, 100),
        old="200",
        new="200",
    ),
    Check(
        "http2-request",
        "",
        "A few streams are served by either build.",
        lambda server: reset_flood(server.ports["h2"], 3),
        old="accepted",
        new="accepted",
    ),
)
