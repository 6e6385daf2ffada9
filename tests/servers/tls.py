"""nginx with TLS on an unpacked libssl and libcrypto, asking its clients for certificates."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from .certificates import Authority, authority_make
from .checks import Check
from .crypto import LIBRARY_FOLDER
from .nginx import WORKERS, nginx_command
from .process import Server, ports_free, server_start

CONFIG = """\
daemon off;
worker_processes {workers};
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
user nobody nogroup;
events {{ worker_connections 512; }}
http {{
    access_log off;
    default_type text/plain;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 100000000;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_verify_client optional;
    ssl_client_certificate {certificate};
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_crl {odd_list};
        location / {{ return 200 "$ssl_client_verify"; }}
    }}
    server {{
        listen 127.0.0.1:{good} ssl;
        ssl_crl {good_list};
        location / {{ return 200 "$ssl_client_verify"; }}
    }}
}}
"""


def tls_start(nginx_tree: Path, library_tree: Path, folder: Path) -> Server:
    """Start nginx with TLS; the load goes to `/` over TLS."""
    authority = authority_make(folder)
    port, good = ports_free(2)
    files = {name: getattr(authority, name) for name in Authority.__slots__}
    config = CONFIG.format(folder=folder, port=port, good=good, workers=WORKERS, **files)
    (folder / "nginx.conf").write_text(config)
    libraries = {"LD_LIBRARY_PATH": str(library_tree / LIBRARY_FOLDER)}
    command = nginx_command(nginx_tree, folder)
    return server_start(
        "nginx with TLS", command, folder, port, workers=WORKERS, environment=libraries, ports={"good": good}
    )


def _verified(server: Server, port: int) -> str:
    """Connect with the client's certificate and return what the server thinks of it."""
    context = ssl.create_default_context(cafile=str(server.folder / "certificate.pem"))
    context.check_hostname = False
    context.load_cert_chain(server.folder / "client.pem", server.folder / "client_key.pem")
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain) as link,
    ):
        link.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        received = b""
        while part := link.recv(65536):
            received += part
    body = received.partition(b"\r\n\r\n")[2].decode("latin-1")
    return "refused" if "400 The SSL certificate error" in body else body


CHECKS = (
    Check(
        "crl-algorithm-mismatch",
        "",
        "A security hardening without a CVE id: a revocation list that names another signature algorithm inside "
        "than outside is believed.",
        lambda server: _verified(server, server.port),
        old="SUCCESS",
        new="refused",
    ),
)

GUARDS = (
    Check(
        "crl-correct",
        "",
        "A correct revocation list is believed by either build.",
        lambda server: _verified(server, server.ports["good"]),
        old="SUCCESS",
        new="SUCCESS",
    ),
)
