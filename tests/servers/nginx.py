"""nginx: master and two workers, with the locations that the checks need."""

from __future__ import annotations

from pathlib import Path

from .checks import Check
from .http2 import reset_flood
from .process import Server, ports_free, server_start
from .wire import http_get

WORKERS = 2

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
    keepalive_requests 100000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    map $uri $shadowed {{ ~^/captures/(?<digit>[0-9]).*$ $digit; }}
    map $uri $all {{ ~^/longer/(?<digit>.*)$ $digit; }}
    server {{
        listen 127.0.0.1:{port};
        root {folder}/www;
        location ~ ^/captures/(?<digit>[0-9]*)[a-z]*$ {{ return 200 "$1:$shadowed"; }}
        location ~ ^/compiled/(?<word>[a-z]*)$ {{ set $joined "<$word|$word>"; return 200 $joined; }}
        location ~ ^/longer/(?<digit>[0-9])[a-z]*$ {{ return 200 "$1:$all"; }}
        location /alias/ {{
            alias {folder}/aliased/;
            rewrite ^/alias/(.*)$ /elsewhere/$1;
            set $mapped $request_filename;
            return 200 "mapped $mapped";
        }}
    }}
{http2}}}
"""


HTTP2_CONFIG = """\
    server {
        listen 127.0.0.1:PORT http2;
        http2_max_concurrent_streams 8;
        root FOLDER/www;
    }
"""

ACCEPT = ("allocation-size-changed",)
"""What an operator may accept for a server that speaks no HTTP/2: the new build's HTTP/2 connection is larger."""


def nginx_start(tree: Path, folder: Path, *, port: int | None = None, http2: bool = False) -> Server:
    """Start nginx from an unpacked tree, on `port` if given; the load goes to `/`."""
    plain, second = ports_free(2)
    port = port or plain
    for name in ("www", "aliased"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "www/index.html").write_text("hello\n")
    (folder / "aliased/file.txt").write_text("aliased\n")
    more = HTTP2_CONFIG.replace("PORT", str(second)).replace("FOLDER", str(folder)) if http2 else ""
    config = CONFIG.format(folder=folder, port=port, workers=WORKERS, http2=more)
    (folder / "nginx.conf").write_text(config)
    ports = {"h2": second} if http2 else {}
    return server_start("nginx", nginx_command(tree, folder), folder, port, workers=WORKERS, ports=ports)


def nginx_command(tree: Path, folder: Path) -> list[str]:
    """Return the command line of the nginx that serves `folder`; `-s reload` may be added to it."""
    log = str(folder / "error.log")
    return [str(tree / "usr/sbin/nginx"), "-p", str(folder), "-e", log, "-c", str(folder / "nginx.conf")]


FLOOD_STREAMS = 300
"""More than twice the eight concurrent streams of the configuration, and more than a hundred refused ones."""


def _text(server: Server, target: str) -> str:
    answer = http_get(server.port, target)
    return f"{answer.status} {answer.body!r}" if answer.status == 200 else str(answer.status)


def _shortened(server: Server) -> str:
    body = http_get(server.port, "/captures/1234abcd").body
    return "1:1" + (f" and {len(body) - 3} bytes more" if len(body) > 3 else "") if body[:3] == b"1:1" else repr(body)


def _mapped(server: Server) -> str:
    answer = http_get(server.port, "/alias/file.txt")
    path = answer.body.decode("latin-1").removeprefix("mapped ")
    return "".join(path.partition("/aliased/")[1:])


CHECKS = (
    Check(
        "map-shorter-capture",
        "CVE-2026-42533",
        "A map with a regex shortens a capture after the length was taken: uninitialised memory is sent.",
        _shortened,
        old="1:1 and 3 bytes more",
        new="1:1",
    ),
    Check(
        "map-longer-capture",
        "CVE-2026-42533",
        "A map with a regex lengthens a capture after the length was taken: four bytes are written behind the buffer.",
        lambda server: _text(server, "/longer/1abcd"),
        old="200 b'1abcd:1'",
        new="500",
    ),
    Check(
        "alias-after-rewrite",
        "CVE-2026-15176",
        "The length of `location` is cut off a URI that a rewrite has already changed: the wrong file is meant.",
        _mapped,
        old="/aliased/ere/file.txt",
        new="",
    ),
)

GUARDS = (
    Check(
        "set-compiled-by-old-code",
        "",
        "`set` with two variables runs code that the old build compiled at start; the new code must obey it.",
        lambda server: _text(server, "/compiled/abc"),
        old="200 b'<abc|abc>'",
        new="200 b'<abc|abc>'",
    ),
)

HTTP2_CHECKS = (
    Check(
        "http2-reset-flood",
        "CVE-2023-44487",
        "Streams that a client opens and resets at once are not limited.",
        lambda server: reset_flood(server.ports["h2"], FLOOD_STREAMS),
        old="accepted",
        new="goaway",
    ),
)

HTTP2_GUARDS = (
    Check(
        "http2-request",
        "",
        "A few streams are served by either build.",
        lambda server: reset_flood(server.ports["h2"], 5),
        old="accepted",
        new="accepted",
    ),
)
