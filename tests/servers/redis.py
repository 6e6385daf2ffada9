"""redis-server with I/O threads, and the payloads that its `RESTORE` command must refuse."""

from __future__ import annotations

from pathlib import Path

from .checks import Check
from .process import Server, port_free, server_start
from .rdb import stream_shared_entry, zipmap_hash
from .wire import exchange

PACKAGE = "redis-tools"
"""The package that holds the program; `redis-server` only links to it."""

CONFIG = """\
bind 127.0.0.1
port {port}
dir {folder}
save ""
appendonly no
daemonize no
io-threads 2
io-threads-do-reads yes
databases 4
"""


def redis_start(tree: Path, folder: Path) -> Server:
    """Start redis-server from an unpacked `redis-tools` (the program is chosen by its argv[0])."""
    port = port_free()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "redis.conf"
    config.write_text(CONFIG.format(port=port, folder=folder))
    program = folder / "redis-server"
    program.unlink(missing_ok=True)
    program.symlink_to(tree / "usr/bin/redis-check-rdb")
    return server_start("redis", [str(program), str(config)], folder, port)


def command_send(port: int, *words: bytes) -> str:
    """Send one command in RESP and return its first reply line, error or not."""
    request = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)
    quit_request = b"*1\r\n$4\r\nQUIT\r\n"
    answer = exchange(port, request + quit_request)
    return answer.split(b"\r\n", 1)[0].decode("latin-1")


def _restored(server: Server, payload: bytes) -> str:
    reply = command_send(server.port, b"RESTORE", b"hotmend-check", b"0", payload, b"REPLACE")
    command_send(server.port, b"UNLINK", b"hotmend-check")
    return "restored" if reply == "+OK" else "refused" if "Bad data format" in reply else reply


CHECKS = (
    Check(
        "restore-zipmap-long-field",
        "CVE-2026-25243",
        "A zipmap field length in a form that its own decoder does not count right passes the validation.",
        lambda server: _restored(server, zipmap_hash(b"\x01\0\xff\0", b"val1", long_field=True)),
        old="restored",
        new="refused",
    ),
    Check(
        "restore-zipmap-long-value",
        "CVE-2026-25243",
        "The same with the length of a value.",
        lambda server: _restored(server, zipmap_hash(b"k", b"val1", long_value=True)),
        old="restored",
        new="refused",
    ),
    Check(
        "restore-stream-shared-entry",
        "CVE-2026-66373",
        "Two consumers may own one pending entry, which is freed twice once it is acknowledged.",
        lambda server: _restored(server, stream_shared_entry(b"first", b"second")),
        old="restored",
        new="refused",
    ),
)

GUARDS = (
    Check(
        "restore-valid-zipmap",
        "",
        "A correct zipmap is restored by either build.",
        lambda server: _restored(server, zipmap_hash(b"k", b"val1")),
        old="restored",
        new="restored",
    ),
    Check(
        "restore-valid-stream",
        "",
        "A correct stream is restored by either build.",
        lambda server: _restored(server, stream_shared_entry(b"only")),
        old="restored",
        new="restored",
    ),
)
