"""How many machines check in each second: a real server on a durable PostgreSQL, the load from another process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa
import urllib3

from bench.checkin_load import REPORT, host_of, identity_of, key_of
from bench.report import Figure, progress
from hotmend.server.database import Database, new_id, open_database
from hotmend.server.machines.tables import actions, contacts, machines, reports
from hotmend.wire.report import report_hash
from tests.survey.cluster import postgresql

MACHINES: Final = (1_000, 10_000, 100_000)
SECONDS: Final = 20
CONNECTIONS: Final = 256
DUE_PART: Final = 20
"""One machine of so many has an open action: 5 %."""
GOAL_A_SECOND: Final = 100_000 / 60
_RATE: Final = round(GOAL_A_SECOND)
_CHUNK: Final = 5_000
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def checkin_measure(folder: Path, counts: list[int]) -> Iterator[Figure]:
    """Yield check-ins a second, their times, and what each costs, for fleets of these sizes.

    As fast as answers come, and at the steady rate that is the goal; for the largest fleet with two server processes as
    well, and for the smallest on SQLite.
    """
    folder.mkdir(parents=True)
    with postgresql(durable=True) as url:
        database = open_database(url)
        made = 0
        try:
            for count in counts:
                progress(f"{count} machines are registered")
                register(database, range(made, count))
                made = max(made, count)
                with server_start(url, folder) as one:
                    yield from _figures(f"Check-in, {count} machines", [one], count)
                    yield from _figures(f"Check-in, {count} machines, at the goal's rate", [one], count, _RATE)
            with server_start(url, folder) as one, server_start(url, folder) as two:
                yield from _figures(f"Check-in, {made} machines, two servers", [one, two], made)
        finally:
            database.close()
    url = f"sqlite:///{folder / 'server.db'}"
    database = open_database(url)
    try:
        register(database, range(counts[0]))
    finally:
        database.close()
    with server_start(url, folder) as one:
        yield from _figures(f"Check-in, {counts[0]} machines, SQLite", [one], counts[0])


def _figures(section: str, servers: list[tuple[str, int]], count: int, rate: int = 0) -> Iterator[Figure]:
    progress(f"{SECONDS} s: {section}")
    before = [_spent(pid) for _, pid in servers]
    load = _load(",".join(address for address, _ in servers), count, rate)
    after = [_spent(pid) for _, pid in servers]
    done = load["answered"]
    note = (
        f"{CONNECTIONS} connections, {SECONDS} s, load {os.getloadavg()[0]:.1f}; {load['reports']} reports,"
        f" {load['orders']} orders handed out, {load['wrong']} wrong answers"
    )
    yield Figure(section, "requests answered a second", done / load["seconds"], "", GOAL_A_SECOND, "goal", note)
    yield Figure(section, "median", load["p50_ms"], "ms")
    yield Figure(section, "99 of 100 within", load["p99_ms"], "ms", 100.0, "goal")
    server = sum(late[0] - early[0] for late, early in zip(after, before, strict=True))
    for name, spent in (("server", server), ("PostgreSQL", after[0][1] - before[0][1])):
        yield Figure(section, f"processor time of the {name}, each", spent / max(done, 1) * 1e6, "us")
    yield Figure(section, "processor time of the load, each", load["processor"] / max(done, 1) * 1e6, "us")
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for _, pid in servers)
    yield Figure(section, "memory of the servers", pages * os.sysconf("SC_PAGE_SIZE") / 1e6, "MB")


def _load(addresses: str, count: int, rate: int) -> dict[str, Any]:
    given = map(str, (count, SECONDS, CONNECTIONS, rate))
    command = [sys.executable, "-m", "bench.checkin_load", addresses, *given]
    answer = subprocess.run(command, check=False, capture_output=True, text=True)
    if answer.returncode:
        raise RuntimeError(answer.stderr.strip().splitlines()[-1] if answer.stderr.strip() else "the load failed")
    return dict(json.loads(answer.stdout))


def register(database: Database, numbers: range) -> None:
    """Put machines into the tables as enrolling does, each with a report, every twentieth with an open action."""
    now = datetime.now(UTC)
    body, hashed = msgspec.json.encode(REPORT), report_hash(REPORT)
    for first in range(numbers.start, numbers.stop, _CHUNK):
        chunk = range(first, min(first + _CHUNK, numbers.stop))
        with database.write() as connection:
            connection.execute(sa.insert(machines), [_machine(number, now) for number in chunk])
            rows = [{"machine_id": identity_of(number), "counter": 0, "report_hash": hashed} for number in chunk]
            connection.execute(sa.insert(contacts), rows)
            said = {
                "at": now,
                "hash": hashed,
                "body": body,
                "release": REPORT.release,
                "level": REPORT.level,
                "line": REPORT.line,
                "enrollment": REPORT.enrollment,
                "mode": REPORT.mode,
                "zone": REPORT.zone,
                "waiting": len(REPORT.waiting),
                "restarts_due": len(REPORT.restarts),
                "reboot_due": False,
                "restarts_avoided": REPORT.restarts_avoided,
                "reboots_avoided": 0,
                "alerts": len(REPORT.alerts),
            }
            connection.execute(sa.insert(reports), [{"machine_id": identity_of(n)} | said for n in chunk])
            due = [_action(number, now) for number in chunk if number % DUE_PART == 0]
            if due:
                connection.execute(sa.insert(actions), due)
    if not database.is_sqlite:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")


def _machine(number: int, now: datetime) -> dict[str, Any]:
    host = host_of(number)
    return {
        "id": identity_of(number),
        "name": f"machine-{number}",
        "state": "active",
        "platform": "linux",
        "tier": "stable",
        "public_key": key_of(number).public,
        "host_machine": host.machine,
        "host_hardware": host.hardware,
        "registered_at": now,
        "approved_at": now,
    }


def _action(number: int, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id(),
        "machine_id": identity_of(number),
        "kind": "install",
        "updates": ["openssl=3.0.17-1~deb12u3"],
        "created_by": "bench",
        "created_at": now,
        "due_at": now,
        "changed_at": now,
    }


@contextmanager
def server_start(database: str, folder: Path) -> Iterator[tuple[str, int]]:
    """Give address and process of a `hotmend server` of its own; it is ended by its process id."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "hotmend", "server", "--database", database, "--listen", f"127.0.0.1:{port}"]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        limit = time.monotonic() + 120
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError((folder / "server.log").read_text().strip().splitlines()[-1])
            time.sleep(0.2)
        yield f"127.0.0.1:{port}", process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(300)


def _answers(port: int) -> bool:
    try:
        return urllib3.request("GET", f"http://127.0.0.1:{port}/healthz", retries=False, timeout=5).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def _spent(pid: int) -> tuple[float, float]:
    """Return the seconds of processor time of the server, and of all processes of PostgreSQL, ended ones too."""
    spent = {"server": 0.0, "postgres": 0.0}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
            except OSError:
                continue
            fields = rest.split()
            times = [int(field) for field in fields[11:15]]
            if int(folder.name) == pid:
                spent["server"] += sum(times[:2]) / _TICKS
            elif name == "postgres":
                spent["postgres"] += sum(times[:2]) / _TICKS
    return spent["server"], spent["postgres"]
