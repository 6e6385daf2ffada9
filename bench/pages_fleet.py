"""A large fleet as rows: what its machines, their reports, a year of days, and a rollout over all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from bench.checkin_load import REPORT
from hotmend.server.audit.tables import audit, audit_head
from hotmend.server.compliance.tables import concerns, counts, days, exposures
from hotmend.server.database import Database
from hotmend.server.machines.judging import program
from hotmend.server.machines.store import labels_of
from hotmend.server.machines.tables import (
    PLACES,
    actions,
    contacts,
    events,
    facts,
    findings,
    machines,
    reports,
    scopes,
    tags,
)
from hotmend.server.releases.tables import channels, releases
from hotmend.server.rollouts.tables import groups, members, rollouts

CVES: Final = 300
ROLLOUT: Final = "a" * 32
WINDOWS_PART: Final = 10
"""One machine of so many is a Windows server whose facts are known."""
_CHUNK: Final = 5_000
_DAYS: Final = 366
_AUDITED: Final = 20_000
_PLACES: Final = ("in-memory", "everywhere", "on-disk", "nowhere")
_LEVELS: Final = ("2026-11.1", "2026-10.2", "2026-11.2")
_RELEASES: Final = ("Debian GNU/Linux 12 (bookworm)", "Debian GNU/Linux 13 (trixie)")
_ZONE: Final = "Europe/Berlin"
_FACTS: Final = Path("tests/data/facts/cases/october-2-right.json")
_Rows = dict[sa.Table, list[dict[str, Any]]]


def fleet_fill(database: Database, count: int) -> None:
    """Put so many machines into an empty database, and have its statistics made."""
    now = datetime.now(UTC)
    with database.write() as connection:
        for table, rows in _common(now):
            _put(connection, table, rows)
    for first in range(0, count, _CHUNK):
        with database.write() as connection:
            for table, rows in _chunk(range(first, min(first + _CHUNK, count)), count, now).items():
                if rows:
                    _put(connection, table, rows)
    statement = "ANALYZE" if database.is_sqlite else "VACUUM ANALYZE"
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statement)


def _put(connection: Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows; into PostgreSQL by COPY, which takes a tenth of the time."""
    if connection.dialect.name == "sqlite":
        connection.execute(sa.insert(table), rows)
        return
    names = list(rows[0])
    is_json = {name for name in names if isinstance(table.c[name].type, sa.JSON)}
    columns = ", ".join(f'"{name}"' for name in names)
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row([json.dumps(row[name]) if name in is_json else row[name] for name in names])


def identity_of(number: int) -> str:
    """Return a machine's id."""
    return f"{number * 0x9E3779B97F4A7C15 % (1 << 128):032x}"


def _common(now: datetime) -> Iterator[tuple[sa.Table, list[dict[str, Any]]]]:
    yield (
        rollouts,
        [
            {
                "id": ROLLOUT,
                "name": "everything",
                "lane": "normal",
                "state": "PAUSED",
                "spec": {"updates": ["openssl=3.0.17"], "rings": [{"name": "canary", "percent": 5}, {"name": "rest"}]},
                "plan": "0" * 64,
                "why": {},
                "created_by": "bench",
                "created_at": now,
                "changed_at": now,
            }
        ],
    )
    yield (
        groups,
        [
            {
                "rollout_id": ROLLOUT,
                "number": number,
                "id": f"{number:032x}",
                "name": name,
                "state": "RUNNING",
                "why": {},
            }
            for number, name in enumerate(("canary", "rest"))
        ],
    )
    yield (
        scopes,
        [
            {"id": f"{number:032x}", "name": f"scope-{number}", "query": query, "created_at": now}
            for number, query in enumerate(({}, {"line": "on"}, {"tags": {"site": "7"}}, {"platform": "windows"}))
        ],
    )
    yield channels, [{"channel": "main", "tier": "stable", "source": "x", "looked_at": now, "good_at": now}]
    yield (
        releases,
        [
            {
                "channel": "main",
                "tier": "stable",
                "id": f"2026-{number:02d}.1",
                "kind": "hotpatch",
                "title": f"release {number}",
                "made": now - timedelta(days=10 * number),
                "classification": "security",
                "urgency": "high",
                "requires": "",
                "cves": [f"CVE-2026-{each:04d}" for each in range(number * 20, number * 20 + 20)],
                "packages": [[f"package-{number}", "1", "2"]],
                "issues": [],
            }
            for number in range(12)
        ],
    )
    today = now.date()
    yield (
        days,
        [
            {
                "day": today - timedelta(back),
                "at": now - timedelta(back),
                "machines": 99_000,
                "silent": 900,
                "exposed": 9,
            }
            for back in range(1, _DAYS)
        ],
    )
    for back in range(1, _DAYS):
        yield counts, [_count(today - timedelta(back), number) for number in range(CVES)]
    yield audit, [_audited(number, now) for number in range(1, _AUDITED + 1)]
    yield audit_head, [{"id": 1, "number": _AUDITED, "hash": "0" * 64}]


def _count(day: date, number: int) -> dict[str, Any]:
    places = {"in_memory": 900, "everywhere": 300, "on_disk": 40, "nowhere": number % 3}
    return {"day": day, "cve": f"CVE-2026-{number:04d}", "machines": 40, **places}


def _audited(number: int, now: datetime) -> dict[str, Any]:
    return {
        "number": number,
        "at": now,
        "actor": "bench",
        "action": "machine.tags",
        "subject": identity_of(number % 1000),
        "detail": "{}",
        "previous": "0" * 64,
        "hash": "0" * 64,
    }


def _chunk(numbers: range, count: int, now: datetime) -> _Rows:
    ids = {number: identity_of(number) for number in numbers}
    body = msgspec.json.encode(REPORT)
    given = _FACTS.read_bytes()
    issues = [each.id for each in program().issues]
    windows = [each for number, each in ids.items() if _is_windows(number)]
    return {
        machines: [_machine(each, number, now) for number, each in ids.items()],
        contacts: [
            {"machine_id": each, "seen_at": now - timedelta(days=number % 50 == 0)} for number, each in ids.items()
        ],
        reports: [_report(each, number, body, now) for number, each in ids.items()],
        tags: [
            {"machine_id": each, "name": name, "value": value}
            for number, each in ids.items()
            for name, value in _tags(number).items()
        ],
        events: [{"machine_id": each, "at": now, "kind": "level", "detail": "level 1"} for each in ids.values()],
        findings: [_finding(each, number, place, now) for number, each in ids.items() for place in range(4)],
        exposures: [_exposure(each, number, place, now) for number, each in ids.items() for place in range(4)],
        facts: [{"machine_id": each, "at": now, "body": given} for each in windows],
        concerns: [_concern(each, issue, now) for each in windows for issue in issues],
        actions: [_action(each, number, now) for number, each in ids.items() if number < count // 2],
        members: [_member(each, number, count) for number, each in ids.items()],
    }


def _is_windows(number: int) -> bool:
    return number % WINDOWS_PART == 3


def _tags(number: int) -> dict[str, str]:
    found = {"site": str(number % 50), "set": f"set-{number % 500}"}
    return found | {"pair": f"pair-{number // 100}"} if number % 50 == 1 else found


def _machine(identity: str, number: int, now: datetime) -> dict[str, Any]:
    return {
        "id": identity,
        "name": f"machine-{number}",
        "state": "active",
        "platform": "windows" if _is_windows(number) else "linux",
        "tier": "stable",
        "public_key": f"{number:064x}",
        "host_machine": f"{number:064x}",
        "registered_at": now,
        "labels": labels_of(_tags(number)),
        "clock": _ZONE,
    }


def _report(identity: str, number: int, body: bytes, now: datetime) -> dict[str, Any]:
    return {
        "machine_id": identity,
        "at": now,
        "hash": "0" * 64,
        "body": body,
        "release": _RELEASES[number % 2],
        "level": _LEVELS[number % 3],
        "line": "off" if number % 100 == 0 else "on",
        "enrollment": "ENABLED",
        "mode": "automatic",
        "zone": _ZONE,
        "waiting": number % 2,
        "restarts_due": number % 2,
        "reboot_due": False,
        "restarts_avoided": 12,
        "reboots_avoided": 0,
        "alerts": int(number % 1000 == 0),
        **dict.fromkeys(PLACES, 1),
        "cves": 2,
    }


def _cve(number: int, place: int) -> str:
    return f"CVE-2026-{(number * 7 + place * 75) % CVES:04d}"


def _finding(machine: str, number: int, place: int, now: datetime) -> dict[str, Any]:
    cve = _cve(number, place)
    return {
        "machine_id": machine,
        "number": place,
        "cve": cve,
        "fixed": _PLACES[(number + place) % 4],
        "pid": 1000 + number % 7000,
        "comm": "nginx",
        "unit": "nginx.service",
        "image": "/usr/sbin/nginx",
        "brings": f"package-{cve[-2:]}=2",
        "since": now - timedelta(seconds=number),
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


def _concern(machine: str, issue: str, now: datetime) -> dict[str, Any]:
    return {
        "machine_id": machine,
        "issue": issue,
        "affected": True,
        "done": int(machine[-1], 16) % 2 == 0,
        "overdue": False,
        "proven": 1,
        "steps": 4,
        "day": now.date(),
        "facts_at": now,
    }


def _action(machine: str, number: int, now: datetime) -> dict[str, Any]:
    state = "SCHEDULED" if number % 20 == 0 else "FAILED" if number % 500 == 1 else "SUCCEEDED"
    return {
        "id": _action_id(number),
        "machine_id": machine,
        "kind": "install",
        "updates": ["openssl=3.0.17"],
        "state": state,
        "rollout_id": ROLLOUT,
        "group_id": f"{number * 20 // 100_000:032x}",
        "created_by": "bench",
        "created_at": now,
        "due_at": now,
        "handed_at": now,
        "changed_at": now - timedelta(seconds=number),
    }


def _action_id(number: int) -> str:
    return f"{number:032x}"


def _member(machine: str, number: int, count: int) -> dict[str, Any]:
    return {
        "rollout_id": ROLLOUT,
        "machine_id": machine,
        "number": int(number >= count // 20),
        "place": number,
        "action_id": _action_id(number) if number < count // 2 else None,
    }
