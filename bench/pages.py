"""How long the portal's pages of a large fleet take: a real server on SQLite, rows as reports leave them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from bench.report import Figure, progress
from hotmend.server.compliance import daily
from hotmend.server.compliance.tables import exposures
from hotmend.server.database import Database, open_database
from hotmend.server.machines.tables import contacts, findings, machines, reports, tags
from tests.server.machine import report
from tests.server.running import Running, running

TIMES: Final = 5
CVES: Final = 300
GOAL_MS: Final = 300.0
_CHUNK: Final = 5_000
_PLACES: Final = ("in-memory", "everywhere", "on-disk", "nowhere")
PAGES: Final = (
    "/",
    "/machines",
    "/machines?tag=site%3D7",
    "/compliance",
    *(f"/compliance?by={by}" for by in ("product", "package", "tag", "machine", "time", "exposure")),
    "/issues",
    "/calendar",
    "/maintenance",
    "/rollouts/new?name=x&ring=canary&by=percent&value=1&ring=rest&by=rest&value=&previewed=yes",
)


def pages_measure(folder: Path, count: int) -> Iterator[Figure]:
    """Yield how long each page takes with so many machines: the first time, and again."""
    folder.mkdir(parents=True)
    url = f"sqlite:///{folder / 'fleet.db'}"
    database = open_database(url)
    progress(f"{count} machines")
    for first in range(0, count, _CHUNK):
        _fill(database, range(first, min(first + _CHUNK, count)))
    with database.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")
    database.close()
    with running(url) as server:
        server.set_up()
        began = time.monotonic()
        daily.take(server.app.state.context)
        section = f"Pages, {count} machines"
        yield Figure(section, "writing a day down", (time.monotonic() - began) * 1e3, "ms")
        for path in PAGES:
            progress(path)
            took = [_took(server, path) for _ in range(1 + TIMES)]
            note = f"the first time {took[0]:.0f} ms; load {os.getloadavg()[0]:.1f}"
            yield Figure(section, path.partition("&")[0], statistics.median(took[1:]), "ms", GOAL_MS, "goal", note)


def _took(server: Running, path: str) -> float:
    began = time.monotonic()
    reply = server.call("GET", path)
    assert reply.status == 200, (path, reply.body)
    return (time.monotonic() - began) * 1e3


def _fill(database: Database, numbers: range) -> None:
    now = datetime.now(UTC)
    said = report()
    common = {
        "at": now,
        "hash": "0" * 64,
        "body": b"{}",
        "release": said.release,
        "level": said.level,
        "line": said.line,
        "enrollment": said.enrollment,
        "mode": said.mode,
        "zone": said.zone,
        "waiting": 1,
        "restarts_due": 1,
        "reboot_due": False,
        "restarts_avoided": 12,
        "reboots_avoided": 0,
        "alerts": 0,
    }
    ids = {number: f"{number:032x}" for number in numbers}
    rows: dict[sa.Table, list[dict[str, Any]]] = {
        machines: [
            {
                "id": each,
                "name": f"machine-{number}",
                "state": "active",
                "platform": "linux",
                "tier": "stable",
                "public_key": f"{number:064x}",
                "host_machine": f"{number:064x}",
                "registered_at": now,
            }
            for number, each in ids.items()
        ],
        contacts: [{"machine_id": each, "seen_at": now} for each in ids.values()],
        reports: [{"machine_id": each, **common} for each in ids.values()],
        tags: [
            {"machine_id": each, "name": name, "value": value}
            for number, each in ids.items()
            for name, value in (("site", str(number % 50)), ("set", f"set-{number % 500}"))
        ],
        findings: [_finding(each, number, place, now) for number, each in ids.items() for place in range(4)],
        exposures: [_exposure(each, number, place, now) for number, each in ids.items() for place in range(4)],
    }
    with database.write() as connection:
        for table, values in rows.items():
            connection.execute(sa.insert(table), values)


def _cve(number: int, place: int) -> str:
    return f"CVE-2026-{(number * 7 + place * 75) % CVES:04d}"


def _finding(machine: str, number: int, place: int, now: datetime) -> dict[str, Any]:
    cve = _cve(number, place)
    return {
        "machine_id": machine,
        "number": place,
        "cve": cve,
        "fixed": _PLACES[(number + place) % 4],
        "pid": 1000 + place,
        "comm": "nginx",
        "unit": "nginx.service",
        "image": "/usr/sbin/nginx",
        "brings": f"package-{cve[-2:]}=2",
        "since": now,
    }


def _exposure(machine: str, number: int, place: int, now: datetime) -> dict[str, Any]:
    cve = _cve(number, place)
    closed = None if (number + place) % 4 >= 2 else now
    return {
        "machine_id": machine,
        "subject": cve,
        "opened_at": now - timedelta(days=3),
        "brings": f"package-{cve[-2:]}=2",
        "closed_at": closed,
        "how": "in-memory" if closed else "",
    }
