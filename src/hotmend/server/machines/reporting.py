"""What a machine says of itself, in rows: the report, and each vulnerability in each process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotmend.server.compliance.following import follow
from hotmend.server.compliance.rules import OLD
from hotmend.server.issues.store import has_reported, put_reported
from hotmend.server.machines.tables import alerts, contacts, events, findings, machines, reports
from hotmend.wire.report import DUE, OF_SERVER, Finding, Fixed, Report, report_hash


def put_report(connection: Connection, identity: str, report: Report, now: datetime, said: str = "") -> None:
    """Keep a report in place of the one before; findings that stay keep their `since`.

    Args:
        connection: of a transaction that may write.
        identity: of the machine.
        report: of it.
        now: UTC.
        said: hash by which the machine knows it: another version makes another one of the same report, and would be
            asked for it again and again.
    """
    before = connection.execute(
        sa.select(
            reports.c.hash,
            reports.c.level,
            reports.c.line,
            reports.c.enrollment,
            reports.c.zone,
            reports.c.alerts,
            has_reported(reports.c.machine_id).label("issues"),
        ).where(reports.c.machine_id == identity)
    ).one_or_none()
    hashed = report_hash(report)
    known = sa.update(contacts).where(contacts.c.machine_id == identity).values(report_hash=said or hashed)
    connection.execute(known)
    if before is not None and before.hash == hashed:
        return
    values: dict[str, Any] = {
        "at": now,
        "hash": hashed,
        "body": msgspec.json.encode(report),
        "release": report.release[:200],
        "level": report.level[:200],
        "line": report.line[:20],
        "enrollment": report.enrollment[:40],
        "mode": report.mode[:20],
        "zone": report.zone[:100],
        "waiting": len(report.waiting),
        "restarts_due": len(report.restarts),
        "reboot_due": bool(report.reboot),
        "restarts_avoided": report.restarts_avoided,
        "reboots_avoided": report.reboots_avoided,
        "alerts": sum(alert.code not in DUE for alert in report.alerts),
        **found_of(report.findings),
    }
    if before is None:
        connection.execute(sa.insert(reports).values(machine_id=identity, **values))
    else:
        connection.execute(sa.update(reports).where(reports.c.machine_id == identity).values(values))
    if before is None or before.zone != values["zone"]:
        connection.execute(sa.update(machines).where(machines.c.id == identity).values(clock=values["zone"]))
    if values["alerts"] or (before is not None and before.alerts):
        put_alerts(connection, identity, {alert.code for alert in report.alerts} - DUE - OF_SERVER)
    if report.issues or (before is not None and before.issues):
        put_reported(connection, identity, report.issues, now)
    _put_findings(connection, identity, report.findings, now)
    follow(connection, identity, report.findings, now)
    new = (values["level"], values["line"], values["enrollment"])
    if before is None or (before.level, before.line, before.enrollment) != new:
        detail = f"level {report.level or '?'}, line {report.line}, enrollment {report.enrollment or '?'}"
        connection.execute(sa.insert(events).values(machine_id=identity, at=now, kind="level", detail=detail[:2000]))


def found_of(findings: Iterable[Finding]) -> dict[str, int]:
    """Return how many findings have their fix where, and how many vulnerabilities are open."""
    found = tuple(findings)
    places = Counter(each.fixed for each in found)
    is_open = {each.cve for each in found if each.fixed in OLD and each.cve}
    return {place.name.lower(): places[place] for place in Fixed} | {"cves": len(is_open)}


def put_alerts(connection: Connection, identity: str, codes: Iterable[str]) -> None:
    """Keep the codes of what is a sign that a machine is ill, in place of those before."""
    connection.execute(sa.delete(alerts).where(alerts.c.machine_id == identity))
    if rows := [{"machine_id": identity, "code": code} for code in sorted({code[:100] for code in codes})]:
        connection.execute(sa.insert(alerts), rows)


def _put_findings(connection: Connection, identity: str, found: tuple[Finding, ...], now: datetime) -> None:
    columns = [findings.c[name] for name in Finding.__struct_fields__]
    query = sa.select(*columns, findings.c.since).where(findings.c.machine_id == identity)
    since = {tuple(row[:-1]): row[-1] for row in connection.execute(query)}
    rows = []
    for number, finding in enumerate(found):
        values = msgspec.structs.asdict(finding) | {"fixed": finding.fixed.value}
        key = tuple(values[name] for name in Finding.__struct_fields__)
        rows.append(values | {"machine_id": identity, "number": number, "since": since.get(key, now)})
    connection.execute(sa.delete(findings).where(findings.c.machine_id == identity))
    if rows:
        connection.execute(sa.insert(findings), rows)
