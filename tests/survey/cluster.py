"""A PostgreSQL server of a test's own, on a socket in its own directory."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

_SECONDS = 300.0


def _program(name: str) -> Path:
    """Return the newest server's program; Debian keeps them out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    assert found, "the package postgresql is not installed: tools/install-system-packages"
    return found[-1]


@contextmanager
def postgresql(*, durable: bool = False) -> Iterator[str]:
    """Give the URL of an empty database; the server is ended by its process id.

    Args:
        durable: what is committed is on the disk, as where it counts; tests do without.
    """
    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    with tempfile.TemporaryDirectory(prefix="hotmend-pg-") as name:  # a socket's path must be short
        root = Path(name)
        shutil.chown(root, user.pw_name)
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        command = [_program("initdb"), "-D", root / "data", "-U", "hotmend", "-A", "trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(command, check=True, capture_output=True, cwd=root, **as_user)  # type: ignore[call-overload]
        server = [_program("postgres"), "-D", root / "data", "-k", root, "-c", "listen_addresses="]
        server += [] if durable else ["-F"]
        with (root / "log").open("wb") as log:
            process = subprocess.Popen(server, stdout=log, stderr=log, cwd=root, **as_user)  # type: ignore[call-overload]
        try:
            _wait_until_ready(root)
            yield f"postgresql://hotmend@/postgres?host={root}"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(_SECONDS)


def _wait_until_ready(root: Path) -> None:
    end = time.monotonic() + _SECONDS
    while subprocess.run([_program("pg_isready"), "-q", "-h", root], check=False).returncode:
        assert time.monotonic() < end, (root / "log").read_text()
        time.sleep(0.1)


def rows(database: str, query: str) -> list[tuple[object, ...]]:
    """Return what a query answers; nothing where its tables are not there yet."""
    engine = sa.create_engine(sa.make_url(database).set(drivername="postgresql+psycopg"))
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query))]
    except sa.exc.ProgrammingError:
        return []
    finally:
        engine.dispose()
