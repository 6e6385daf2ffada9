"""apache2 with the event MPM and its modules from the unpacked tree."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from .checks import Check
from .process import Server, port_free, server_start
from .wire import http_get

PACKAGE = "apache2-bin"
ACCEPT = ("allocation-size-changed",)
"""What an operator may accept: the table of one request's own error texts got one entry more for a new status."""

CHILDREN = 2
THREADS = 25
"""For each child; more than the load has connections, since a busy child closes kept-alive ones."""

MODULES = (
    *("mpm_event", "authz_core", "authz_host", "filter", "deflate", "dir", "mime"),
    *("alias", "cgi", "userdir", "rewrite", "setenvif", "headers"),
)
DAV_MODULES = (*MODULES, "dav", "dav_fs")

CONFIG = """\
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/apache.pid
DefaultRuntimeDir {folder}
Mutex file:{folder} default
ErrorLog {folder}/error.log
LogLevel warn
{modules}
User nobody
Group nogroup
StartServers {children}
ServerLimit {children}
ThreadsPerChild {threads}
MaxRequestWorkers {workers}
MaxRequestsPerChild 0
MinSpareThreads 1
MaxSpareThreads {workers}
KeepAlive On
MaxKeepAliveRequests 0
DocumentRoot {folder}/www
TypesConfig /dev/null
<Directory />
    AllowOverride None
    Require all denied
</Directory>
<Directory {folder}/www>
    Require all granted
</Directory>
<Directory {folder}/users>
    Require all granted
</Directory>
UserDir {folder}/users
UserDir disabled root
<IfModule dav_fs_module>
    DavLockDB {folder}/state/lock
    <Directory {folder}/www/dav>
        Dav On
    </Directory>
</IfModule>
Alias /cgi/ {folder}/cgi/
<Directory {folder}/cgi>
    Options ExecCGI
    AddType application/x-httpd-cgi .cgi
    Require all granted
</Directory>
<Location /cgi/cat.cgi>
    SetInputFilter DEFLATE
</Location>
"""


def apache_start(tree: Path, folder: Path, names: tuple[str, ...] = MODULES) -> Server:
    """Start apache2 from an unpacked `apache2-bin` with the modules `names`; the load goes to `/`."""
    port = port_free()
    _site_write(folder)
    modules = tree / "usr/lib/apache2/modules"
    loads = "\n".join(f"LoadModule {name}_module {modules}/mod_{name}.so" for name in names)
    config = folder / "apache.conf"
    config.write_text(
        CONFIG.format(
            folder=folder, port=port, modules=loads, children=CHILDREN, threads=THREADS, workers=THREADS * CHILDREN
        )
    )
    command = [str(tree / "usr/sbin/apache2"), "-D", "FOREGROUND", "-f", str(config)]
    return server_start("apache2", command, folder, port, workers=CHILDREN)


def _site_write(folder: Path) -> None:
    for name in ("www/dav", "users/alice", "state", "cgi"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "www/index.html").write_text("hello\n")
    (folder / "users/alice/page.txt").write_text("page of alice\n")
    (folder / "users/private.txt").write_text("belongs to no user\n")
    for name in ("www/dav", "state"):
        (folder / name).chmod(0o777)
    (folder / "www/dav/file.txt").write_text("a file\n")
    for name, text in {
        "redirect.cgi": "#!/bin/sh\nprintf 'Location: /cgi/data\\n\\n'\n",
        "cat.cgi": "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\ncat\n",
        "data": "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nexecuted\\n'\n",
    }.items():
        (folder / "cgi" / name).write_text(text)
        (folder / "cgi" / name).chmod(0o755)


EXTRA_FIELD_BYTES = 0x80
"""A length whose low byte has its high bit set."""

PROPERTY = b"""<?xml version="1.0"?><D:propertyupdate xmlns:D="DAV:"><D:set><D:prop>
<x:note xmlns:x="urn:x">hidden property</x:note></D:prop></D:set></D:propertyupdate>"""

LOCK = b"""<?xml version="1.0"?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>
<D:locktype><D:write/></D:locktype></D:lockinfo>"""


def gzip_extra(content: bytes, extra: bytes) -> bytes:
    """Return `content` as a gzip stream whose header carries the extra field `extra`."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(content) + packer.flush()
    head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + struct.pack("<H", len(extra)) + extra
    return head + packed + struct.pack("<II", zlib.crc32(content), len(content))


def _status(server: Server, target: str) -> str:
    return str(http_get(server.port, target).status)


def _redirected(server: Server) -> str:
    body = http_get(server.port, "/cgi/redirect.cgi").body
    return "sent" if body.startswith(b"#!/bin/sh") else "executed" if b"executed\n" in body else repr(body)


def _inflated(server: Server, extra_bytes: int) -> str:
    body = gzip_extra(b"payload", b"x" * extra_bytes)
    answer = http_get(server.port, "/cgi/cat.cgi", "Content-Encoding: gzip", method="POST", body=body)
    return "inflated" if b"payload" in answer.body else str(answer.status)


def _lock_seconds(server: Server) -> str:
    lines = ("Timeout: Second-99999999999999", "Content-Type: text/xml")
    answer = http_get(server.port, "/dav/file.txt", *lines, method="LOCK", body=LOCK)
    token = answer.head.partition("Lock-Token: ")[2].partition("\r\n")[0]
    http_get(server.port, "/dav/file.txt", f"Lock-Token: {token}", method="UNLOCK")
    text = answer.body.partition(b"<D:timeout>")[2].partition(b"</")[0].decode("latin-1")
    # The server says what is left: a second may have gone by.
    for beginning, meaning in (("Second-9999999999999", "as asked for"), ("Second-42949672", "at most 32 bits")):
        if text.startswith(beginning):
            return meaning
    return text


def _property_read(server: Server) -> str:
    http_get(server.port, "/dav/file.txt", "Content-Type: text/xml", method="PROPPATCH", body=PROPERTY)
    answer = http_get(server.port, "/dav/.DAV/file.txt")
    return "disclosed" if b"hidden property" in answer.body else str(answer.status)


CHECKS = (
    Check(
        "userdir-dot",
        "CVE-2026-79768",
        "`/~./` is taken for the user `.`, so that every file of the directory above the users is served.",
        lambda server: _status(server, "/~./private.txt"),
        old="200",
        new="404",
    ),
    Check(
        "redirect-executes",
        "CVE-2026-42356",
        "The type of a CGI program clings to the target of its internal redirect: a plain file is executed.",
        _redirected,
        old="executed",
        new="sent",
    ),
    Check(
        "gzip-extra-field",
        "",
        "A bug fix without a CVE: a gzip extra field of 128 bytes is read as a negative length.",
        lambda server: _inflated(server, EXTRA_FIELD_BYTES),
        old="400",
        new="inflated",
    ),
)

DAV_CHECKS = (
    Check(
        "lock-timeout",
        "",
        "A bug fix without a CVE (PR 65788): an overflowing lock timeout is taken as it comes.",
        _lock_seconds,
        old="as asked for",
        new="at most 32 bits",
    ),
)

START_ONLY_CHECKS = (
    Check(
        "dav-state-directory",
        "CVE-2026-58415",
        "The property database is served. The new build refuses in a hook that it registers at start, "
        "so no hotpatch can bring this fix: it must be refused, with that reason.",
        _property_read,
        old="disclosed",
        new="403",
    ),
)

GUARDS = (
    Check(
        "user-page",
        "",
        "A page of a real user is served by either build.",
        lambda server: _status(server, "/~alice/page.txt"),
        old="200",
        new="200",
    ),
    Check(
        "gzip-no-extra-field",
        "",
        "A short extra field is skipped by either build.",
        lambda server: _inflated(server, 4),
        old="inflated",
        new="inflated",
    ),
)
