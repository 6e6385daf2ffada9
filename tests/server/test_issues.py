"""Known issues of releases, as machines report them: kept beside those of the rules, and gone when nobody says so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from hotmend.server.compliance import daily
from hotmend.server.compliance.tables import concerns
from hotmend.server.database import Database, migrate
from hotmend.server.issues import store
from hotmend.server.machines.judging import take_facts
from hotmend.server.machines.reporting import put_report
from hotmend.server.machines.tables import contacts, reports
from hotmend.wire.messages import CHECK_IN_PATH, CheckIn, decode_answer, encode
from hotmend.wire.report import Issue, IssueOption, IssueStep, Report, report_hash
from tests.server.fleet import Fleet
from tests.server.machine import Simple, report, simple
from tests.server.running import Running, running
from tests.server.test_upgrade import copied
from tests.server.typed import Typed

DEADLINE = date(2027, 1, 15)
FACTS = Path("tests/data/facts/cases/october-2-right.json")


@pytest.fixture
def server(either_server: Running) -> Running:
    return either_server


def issue(number: int, *proven: bool | None, **fields: Any) -> Issue:
    """Return an issue with a workaround whose steps are proven, or not; and with another one, none of it done."""
    steps = tuple(IssueStep(f"step {n}", done) for n, done in enumerate(proven))
    options = (IssueOption("restart it", steps), IssueOption("live without it", (IssueStep("stop it", False),)))
    given: dict[str, Any] = {"title": "A page is cut off.", "affected": True, "options": options}
    return Issue(f"2026.11-server/{number}", **(given | fields))


def kept(server: Running, machine: str) -> dict[str, tuple[Any, ...]]:
    """Return the rows of a machine by issue: affected, done, overdue, proven, steps."""
    with server.database.read() as connection:
        rows = connection.execute(sa.select(concerns).where(concerns.c.machine_id == machine)).mappings()
        names = ("affected", "done", "overdue", "proven", "steps")
        return {row["issue"]: tuple(row[name] for name in names) for row in rows}


def says(machine: Simple, *issues: Issue) -> None:
    machine.check_in(report=report(issues=issues))


def test_what_a_machine_reports_of_issues_comes_changes_and_goes(server: Running) -> None:
    server.clock.hold()  # no midnight comes before the day is looked at
    machine, other = simple(server, "one"), simple(server, "two")
    says(machine, issue(0, True, False, None), issue(1, affected=None, options=(), overdue=True))
    says(other, issue(0, True, True))
    assert kept(server, machine.id) == {
        "2026.11-server/0": (True, False, False, 1, 3),
        "2026.11-server/1": (None, False, True, 0, 0),
    }
    assert kept(server, other.id) == {"2026.11-server/0": (True, True, False, 2, 2)}
    with server.database.read() as connection:
        assert store.totals(connection) == {
            "2026.11-server/0": store.Totals(affected=1, done=1),
            "2026.11-server/1": store.Totals(perhaps=1, overdue=1),
        }
        moments = connection.execute(sa.select(concerns.c.day, concerns.c.facts_at)).all()
    assert {row.day for row in moments} == {row.facts_at.date() for row in moments} == {server.clock().date()}
    says(machine, issue(0, True, True, True))
    assert kept(server, machine.id) == {"2026.11-server/0": (True, True, False, 3, 3)}
    says(machine)
    assert kept(server, machine.id) == {}
    assert kept(server, other.id) != {}


def test_issues_by_facts_and_by_report_leave_each_other_alone(server: Running) -> None:
    server.clock.go_to(datetime(2025, 10, 27, 12, tzinfo=UTC))
    (machine,) = Fleet(server).add(1)
    reported = report(issues=(issue(0, False),))
    with server.database.write() as connection:
        take_facts(connection, machine, FACTS.read_bytes(), server.clock())
    assert kept(server, machine).keys() == {"october-2025-licence"}
    with server.database.write() as connection:
        put_report(connection, machine, reported, server.clock())
    both = {"october-2025-licence", "2026.11-server/0"}
    assert kept(server, machine).keys() == both
    with server.database.write() as connection:
        take_facts(connection, machine, FACTS.read_bytes(), server.clock())
    assert kept(server, machine).keys() == both
    server.clock.ahead += timedelta(days=1)
    daily.take(server.app.state.context)
    assert kept(server, machine).keys() == both
    with server.database.write() as connection:
        put_report(connection, machine, report(), server.clock())
    assert kept(server, machine).keys() == {"october-2025-licence"}


def test_one_that_is_named_twice_or_concerns_nobody_does_not_stop_the_others(server: Running) -> None:
    machine = simple(server)
    says(machine, issue(0, False), issue(0, True), issue(1, affected=False), issue(2, False))
    assert kept(server, machine.id).keys() == {"2026.11-server/0", "2026.11-server/2"}


@pytest.mark.parametrize("identity", ["october-2025-licence", "a/b", "a/0/1", "A/0", f"{'a' * 91}/0", "a/0\n"])
def test_a_name_that_is_no_releases_is_refused(server: Running, identity: str) -> None:
    machine = simple(server)
    said = msgspec.json.decode(encode(CheckIn(machine.host, "1", "", report(issues=(issue(0),)))))
    said["report"]["issues"][0]["id"] = identity
    assert machine.send(CHECK_IN_PATH, msgspec.json.encode(said)).status == 400
    assert kept(server, machine.id) == {}


def test_an_agent_that_knows_nothing_of_issues_is_understood(server: Running) -> None:
    machine = simple(server)
    said = msgspec.json.decode(encode(CheckIn(machine.host, "0", "", report())))
    del said["report"]["issues"]
    assert decode_answer(machine.send(CHECK_IN_PATH, msgspec.json.encode(said)).body).approved
    assert kept(server, machine.id) == {}
    assert server.get(f"/api/v1/machines/{machine.id}")["report"]["level"] == report().level


def test_a_machine_without_issues_costs_no_statement_more(server: Running) -> None:
    (machine,) = Fleet(server).add(1)
    first, *more = asked(server, machine, report())
    assert first.count("SELECT") == 2  # whether it had any is asked with the report before
    assert [each for each in more if "concerns" in each] == []
    costs = [
        sum("concerns" in each for each in asked(server, machine, said)[1:])
        for said in (
            report(issues=(issue(0, False),)),
            report(),
            report(restarts_avoided=1),
            report(restarts_avoided=1),
        )
    ]
    assert costs == [2, 1, 0, 0]  # in place of what was there; nothing any more; as little as ever


def asked(server: Running, machine: str, said: Report) -> list[str]:
    """Return the statements that a report costs."""
    found: list[str] = []

    def heard(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        found.append(statement)

    with server.database.write() as connection:
        sa.event.listen(connection, "before_cursor_execute", heard)
        put_report(connection, machine, said, server.clock())
    return found


def test_the_api_and_the_command_say_what_was_reported(server: Running, typed: Typed) -> None:
    machine = simple(server)
    says(machine, issue(0, True, None, deadline=DEADLINE, cost="Nobody reads to the end."))
    (printed,) = typed.rows("machine", machine.id)
    (shown,) = printed["report"]["issues"]
    assert (shown["id"], shown["affected"], shown["deadline"]) == ("2026.11-server/0", True, "2027-01-15")
    assert [(each["title"], each["proven"]) for each in shown["options"][0]["steps"]] == [
        ("step 0", True),
        ("step 1", None),
    ]
    assert server.get(f"/api/v1/machines/{machine.id}")["report"]["issues"] == [shown]
    told = typed("machine", machine.id).splitlines()
    begin = told.index("Known issues")
    assert told[begin + 1 : begin + 8] == [
        "  A page is cut off. [2026.11-server/0]: affected, before 2027-01-15",
        "    if nothing is done: Nobody reads to the end.",
        "    restart it:",
        "      1. step 0: done",
        "      2. step 1: not known",
        "    live without it:",
        "      1. stop it: to do",
    ]


def test_after_an_upgrade_a_machine_is_asked_once_for_the_issues_that_it_reported_before(
    sqlite_url: str, new_database: Callable[[], str]
) -> None:
    with running(sqlite_url) as server:
        server.set_up()
        _upgraded(server, new_database())


def _upgraded(server: Running, url: str) -> None:
    machine = simple(server)
    now = report(issues=(issue(0, True, False),))
    looked = {"report_hash": report_hash(now), "looked_at": server.clock(), "look_minutes": 60}
    # The server of before left out what it did not know, and kept the hash by which the agent knows its report.
    machine.check_in(report=report(), **looked)
    assert not machine.check_in(**looked).want_report
    old = Database(url)
    migrate(old, "0021_seeds")
    copied(server, old)
    looks = sa.select(contacts.c.looked_at, contacts.c.look_by)
    with old.read() as connection:
        before = connection.execute(looks).one()
    old.close()
    with running(old.url) as upgraded:
        upgraded.tokens = server.tokens
        moved = Simple(upgraded, "one", machine.host, machine.key, machine.counter, machine.id)
        assert moved.check_in(**looked).want_report
        with upgraded.database.read() as connection:
            assert connection.execute(looks).one() == before  # nobody is overdue for it
            assert connection.scalar(sa.select(reports.c.level)) == now.level
        assert not moved.check_in(report=now, **looked).want_report
        assert kept(upgraded, machine.id) == {"2026.11-server/0": (True, False, False, 1, 2)}
        assert not moved.check_in(**looked).want_report


def test_issues_are_told_by_one_machine_that_is_there(server: Running) -> None:
    machines = sorted((simple(server, name) for name in "abc"), key=lambda each: each.id)
    for number, machine in enumerate(machines):
        says(machine, issue(0, False, title=f"Page {number} is cut off."), issue(number + 1, False))
    asked_for = ["2026.11-server/3", "2026.11-server/0", "2026.11-server/9", "october-2025-licence"]

    def told() -> list[tuple[str, str, str]]:
        with server.database.read() as connection:
            found = store.told(connection, asked_for)
        return [(each["issue"][-1], each["title"], each["name"]) for each in found]

    third = ("3", "A page is cut off.", machines[2].name)
    assert told() == [third, ("0", "Page 0 is cut off.", machines[0].name)]
    machines[0].leave()
    assert told() == [third, ("0", "Page 1 is cut off.", machines[1].name)]
