"""libcrypto in two kinds of process: a service that calls it directly, and nginx with TLS."""

from __future__ import annotations

import shutil
from pathlib import Path

from .checks import Check
from .process import Server, port_free, server_start
from .wire import http_get

PACKAGE = "libssl3"
LIBRARY_FOLDER = "usr/lib/x86_64-linux-gnu"
LIBRARY = f"{LIBRARY_FOLDER}/libcrypto.so.3"
SERVICE = Path(__file__).with_name("crypto_service.py")


def service_start(tree: Path, folder: Path) -> Server:
    """Start the crypto service on the libcrypto of an unpacked `libssl3`."""
    port = port_free()
    folder.mkdir(parents=True, exist_ok=True)
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin:/bin") or "python3"
    command = [python, "-I", "-S", str(SERVICE), str(tree / LIBRARY), str(port)]
    modules = {"OPENSSL_MODULES": str(tree / LIBRARY_FOLDER / "ossl-modules"), "OPENSSL_CONF": "/dev/null"}
    return server_start("crypto service", command, folder, port, environment=modules)


def _answer(server: Server, path: str) -> str:
    return http_get(server.port, path).body.decode("latin-1")


SERVICE_CHECKS = (
    Check(
        "empty-message-forged",
        "CVE-2026-75803",
        "`EVP_Cipher` accepts any tag for a ChaCha20-Poly1305 message without content.",
        lambda server: _answer(server, "/forged"),
        old="accepted",
        new="rejected",
    ),
)

SERVICE_GUARDS = (
    Check(
        "empty-message-genuine",
        "",
        "The right tag is accepted by either build.",
        lambda server: _answer(server, "/genuine"),
        old="accepted",
        new="accepted",
    ),
    Check(
        "zero-length-update",
        "",
        "An update of no bytes is no operation in either build; in the new one that is another function, which a "
        "cipher fetched from the old build does not know.",
        lambda server: _answer(server, "/parts"),
        old="opened",
        new="opened",
    ),
)
