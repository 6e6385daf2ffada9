"""nginx: master and two workers, with the locations that the checks need."""

from __future__ import annotations

from pathlib import Path

from .process import Server, ports_free, server_start

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
    server {{
        listen 127.0.0.1:{h2} http2;
        http2_max_concurrent_streams 8;
        root {folder}/www;
    }}
}}
"""


def nginx_start(tree: Path, folder: Path) -> Server:
    """Start nginx from an unpacked tree; the load goes to `/`."""
    port, h2 = ports_free(2)
    for name in ("www", "aliased"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "www/index.html").write_text("hello\n")
    (folder / "aliased/file.txt").write_text("aliased\n")
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, port=port, h2=h2, workers=WORKERS))
    command = [str(tree / "usr/sbin/nginx"), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config)]
    return server_start("nginx", command, folder, port, workers=WORKERS, ports={"h2": h2})
