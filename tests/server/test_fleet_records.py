"""`hotmend fleet`: webhooks, the audit record and compliance by command, against a real server."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import msgspec
import sqlalchemy as sa

from hotmend.server.audit.tables import audit, audit_head
from hotmend.server.compliance.daily import take
from hotmend.server.identity.tables import idempotency
from hotmend.server.webhooks.sending import tell
from tests.server.listener import Listener
from tests.server.machine import report, simple
from tests.server.running import Running
from tests.server.typed import Typed


def test_webhooks_by_command(server: Running, typed: Typed, listener: Listener) -> None:
    assert "secret: hmw_" in typed("webhook-add", listener.url)
    (made,) = typed.rows("webhook-add", listener.url, "--about", "windows")
    assert made["about"] == ["windows"]
    with server.database.read() as connection:  # each was sent with a key of its own
        kept = [msgspec.json.decode(each) for each in connection.scalars(sa.select(idempotency.c.answer))]
    assert [each["secret"] for each in kept] == ["", ""]
    assert made["id"] in {each["id"] for each in kept}
    assert [each["about"] for each in typed.rows("webhooks")] == [["rollouts", "windows"], ["windows"]]
    typed("webhook-test", made["id"])
    assert tell(server.app.state.context)
    assert [each["taken"] for each in typed.rows("webhook-deliveries", made["id"])] == [True]
    assert "taken" in typed("webhook-deliveries", made["id"])
    typed("webhook-remove", made["id"])
    typed("webhook-remove", made["id"], code=1)
    typed("webhook-add", "file:///etc/passwd", code=4)


def test_the_audit_record_by_command(server: Running, typed: Typed) -> None:
    for _ in range(3):
        typed("halt")
        typed("release")
    rows = typed.rows("audit", "--action", "halt", "--limit", "2")
    assert len(rows) == 2
    assert "halt" in typed("audit")
    (verdict,) = typed.rows("audit-verify")
    assert verdict["whole"]
    kept = verdict["head"]
    typed("audit-verify", "--head", kept)
    assert "not in it" in typed.error("audit-verify", "--head", "0" * 64, code=4)
    typed("audit-verify", "--head", f" {kept.upper()}")
    assert "not a hash" in typed.error("audit-verify", "--head", kept[:8], code=2)
    with server.database.write() as connection:
        connection.execute(sa.update(audit).where(audit.c.number == 2).values(actor="nobody"))
    assert "row 2" in typed.error("audit-verify", code=4)
    assert "row 2" in typed.error("audit-accept", code=4)
    with server.database.write() as connection:  # all of it written anew
        connection.execute(sa.delete(audit))
        connection.execute(sa.delete(audit_head))
    typed("audit-verify")
    typed("audit-verify", "--head", kept, code=4)
    (accepted,) = typed.rows("audit-accept")
    assert accepted["whole"]
    assert [row["action"] for row in typed.rows("audit")] == ["audit.accept"]


def test_compliance_by_command(server: Running, typed: Typed, tmp_path: Path) -> None:
    simple(server, "one").check_in(report=report())
    take(server.app.state.context)
    found = typed.rows("compliance", "vulnerabilities")
    assert [(each["cve"], each["on_disk"]) for each in found] == [("CVE-2026-0002", 1), ("CVE-2026-0001", 0)]
    assert "CVE-2026-0002" in typed("compliance", "vulnerabilities", "--search", "one")
    assert typed.rows("compliance", "vulnerabilities", "--search", "two") == []
    assert [each["name"] for each in typed.rows("compliance", "by", "machine")] == ["one"]
    assert [each["exposed"] for each in typed.rows("compliance", "days")] == [1]
    assert typed.rows("compliance", "days", "--since", "2999-01-01") == []
    assert [each["open"] for each in typed.rows("compliance", "exposures")] == [1, 0]
    for command in (("by", "package"), ("days",), ("exposures",)):
        assert "1" in typed("compliance", *command)
    for kind in ("vulnerabilities", "machine", "days", "exposures"):
        file = tmp_path / f"{kind}.csv"
        typed("compliance", "export", kind, str(file))
        typed("compliance", "export", kind, str(file), code=1)  # it is there
        typed("compliance", "export", kind, str(tmp_path / f"{kind}.json"), "--form", "json")
        with file.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        read = json.loads((tmp_path / f"{kind}.json").read_text())
        assert [set(row) for row in rows] == [set(row) for row in read]
        if kind == "vulnerabilities":
            assert [row["open"] for row in rows] == ["1", "0"]
    for form, key in (("openvex", "statements"), ("cyclonedx", "vulnerabilities")):
        typed("compliance", "vex", str(tmp_path / form), "--form", form)
        assert json.loads((tmp_path / form).read_text())[key]
