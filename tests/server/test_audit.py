"""The audit record is read back by itself: who changes the database is noticed, and who was not let in is in it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from hotmend.server.audit import store
from hotmend.server.audit.store import FIRST, verify
from hotmend.server.audit.tables import audit, audit_checks, audit_head
from hotmend.server.audit.watching import WHOLE_EACH, Auditor
from tests.server.running import PASSWORD, Running
from tests.server.test_metrics import _told

_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def _auditor(server: Running) -> Auditor:
    return Auditor(server.app.state.context)


def _rows(server: Running, action: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = server.get(f"/api/v1/audit?action={action}")["items"]
    return rows


def _rewrite(server: Running) -> None:
    """Write the record anew from its first row, as somebody does who has the database and knows how."""
    with server.database.write() as connection:
        rows = [dict(row) for row in connection.execute(sa.select(audit).order_by(audit.c.number)).mappings()]
        connection.execute(sa.delete(audit))
        previous = FIRST
        for row in rows:
            row |= {"actor": "somebody else", "previous": previous}
            row["hash"] = previous = store._hash(row)
            connection.execute(sa.insert(audit).values(row))
        connection.execute(sa.update(audit_head).values(hash=previous))


def test_who_is_not_let_in_is_in_the_record_and_who_leaves(server: Running) -> None:
    for name in (b"root", b"a+password+in+the+wrong+field"):
        reply = server.call("POST", "/sign-in", b"name=" + name + b"&password=guessed", role=None, headers=_FORM)
        assert reply.status == 403
    unknown, known = _rows(server, "session.refused")
    root = next(each for each in server.get("/api/v1/users")["items"] if each["name"] == "root")
    assert (known["actor"], known["subject"], known["detail"]) == ("root", root["id"], {"address": "127.0.0.1"})
    assert (unknown["actor"], unknown["subject"], unknown["detail"]) == ("?", "", {"address": "127.0.0.1"})
    assert b"wrong+field" not in server.call("GET", "/api/v1/audit").body
    form = f"name=root&password={PASSWORD.replace(' ', '+')}".encode()
    reply = server.call("POST", "/sign-in", form, role=None, headers=_FORM)
    cookie = {"Cookie": reply.headers["Set-Cookie"].partition(";")[0]}
    page = server.call("GET", "/account", role=None, headers=cookie).body.decode()
    csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
    assert server.call("POST", "/sign-out", f"csrf={csrf}".encode(), role=None, headers=_FORM | cookie).status == 303
    assert [each["actor"] for each in _rows(server, "session.end")] == ["root"]


def test_a_record_that_is_whole_stays_so(either_server: Running) -> None:
    server, auditor = either_server, _auditor(either_server)
    for _ in range(3):
        assert auditor.look() == ""
        server.post("/api/v1/tokens", {"name": "one more"})
    assert _told(server)["audit_wrong",] == 0
    assert _told(server)["audit_read_age_seconds",] < 60
    server.clock.ahead = timedelta(minutes=20)
    assert _told(server)["audit_read_age_seconds",] >= 1200
    assert _auditor(server).look() == ""


def test_before_the_first_reading_nobody_says_that_it_was_read(server: Running) -> None:
    assert _told(server)["audit_read_age_seconds",] == float("inf")


@pytest.mark.parametrize("how", ["changed", "removed", "cut off", "rewritten"])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_record_that_somebody_changed_is_told(either_server: Running, how: str, restarted: bool) -> None:
    server, auditor = either_server, _auditor(either_server)
    assert auditor.look() == ""
    last = sa.select(sa.func.max(audit.c.number)).scalar_subquery()
    with server.database.write() as connection:
        if how == "changed":
            connection.execute(sa.update(audit).where(audit.c.number == 2).values(actor="nobody"))
        elif how == "removed":
            connection.execute(sa.delete(audit).where(audit.c.number == 2))
        elif how == "cut off":
            connection.execute(sa.delete(audit).where(audit.c.number == last))
            row = connection.execute(sa.select(audit).where(audit.c.number == last)).mappings().one()
            connection.execute(sa.update(audit_head).values(number=row["number"], hash=row["hash"]))
    if how == "rewritten":
        _rewrite(server)
        with server.database.read() as connection:
            assert verify(connection).wrong == ""  # it follows from itself
    server.clock.ahead = WHOLE_EACH
    assert (_auditor(server) if restarted else auditor).look() != ""
    assert _told(server)["audit_wrong",] == 1


def test_who_rewrites_what_was_kept_too_is_seen_by_a_process_that_remembers(server: Running) -> None:
    auditor = _auditor(server)
    auditor.look()
    _rewrite(server)
    with server.database.write() as connection:
        connection.execute(sa.delete(audit_checks))
    assert "not the one that was read before" in auditor.look()
    assert _told(server)["audit_wrong",] == 1


def test_what_was_wrong_is_over_when_an_administrator_says_so(server: Running) -> None:
    auditor = _auditor(server)
    auditor.look()
    _rewrite(server)
    assert auditor.look() != ""
    assert "not the one" in server.call("GET", "/", role=None, headers=_signed_in(server)).body.decode()
    assert server.call("POST", "/api/v1/audit/accept", role="approver").status == 403
    assert server.post("/api/v1/audit/accept", status=200)["whole"] is True
    assert (auditor.look(), _told(server)["audit_wrong",]) == ("", 0)
    assert "not the one that was read before" in _rows(server, "audit.accept")[0]["detail"]["wrong"]
    with server.database.write() as connection:
        connection.execute(sa.update(audit).where(audit.c.number == 1).values(actor="nobody"))
    assert server.call("POST", "/api/v1/audit/accept").json()["code"] == "audit-wrong"


def _signed_in(server: Running) -> dict[str, str]:
    form = f"name=root&password={PASSWORD.replace(' ', '+')}".encode()
    reply = server.call("POST", "/sign-in", form, role=None, headers=_FORM)
    return {"Cookie": reply.headers["Set-Cookie"].partition(";")[0]}
