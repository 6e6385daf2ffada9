"""Figures over the whole fleet: new where that is quick, kept where it is not, and as of when they say."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotmend.server.compliance import grouping
from hotmend.server.compliance.rules import OLD
from hotmend.server.context import Context
from hotmend.server.figures import keeper
from hotmend.server.figures.every import FIGURES
from hotmend.server.figures.keeper import LOOK_SECONDS, Keeper, keep
from hotmend.server.figures.kept import Figure, read
from hotmend.server.figures.tables import figures
from hotmend.server.machines.tables import findings, machines, reports, tags
from hotmend.wire.api import Query
from hotmend.wire.report import Finding, Fixed
from tests.server.fleet import Fleet
from tests.server.machine import report, simple
from tests.server.running import Running

MACHINES = Figure("machines", int, lambda connection, _: _count(connection))


def _count(connection: Connection) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(machines)).scalar_one())


def _context(server: Running) -> Context:
    found: Context = server.app.state.context
    return found


def _names(server: Running) -> list[str]:
    with server.database.read() as connection:
        return list(connection.scalars(sa.select(figures.c.name).order_by(figures.c.name)))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything takes long."""
    monkeypatch.setattr(keeper, "QUICK_MS", -1)


def test_what_is_quick_is_always_new(either_server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "QUICK_MS", 1e6)
    fleet, context = Fleet(either_server), _context(either_server)
    keep(context, MACHINES)
    assert _names(either_server) == []
    assert read(context, MACHINES).value == 0
    fleet.add(2)
    assert read(context, MACHINES).value == 2


@pytest.mark.usefixtures("slow")
def test_what_takes_long_is_as_it_was_found_last(either_server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet, context = Fleet(either_server), _context(either_server)
    either_server.clock.hold()
    fleet.add(1)
    keep(context, MACHINES)
    first = read(context, MACHINES)
    assert first.value == 1
    fleet.add(1)
    assert keep(context, MACHINES) == 0.0  # it is young
    assert read(context, MACHINES) == first
    fleet.later(hours=1)  # however long making it took
    assert keep(context, MACHINES) > 0
    again = read(context, MACHINES)
    assert (again.value, again.at > first.at) == (2, True)
    monkeypatch.setattr(keeper, "QUICK_MS", 1e6)
    fleet.later(hours=1)  # however long making it took
    keep(context, MACHINES)  # a fleet that has become small
    assert _names(either_server) == []


@pytest.mark.usefixtures("slow")
def test_one_of_several_servers_makes_a_figure(either_server: Running) -> None:
    fleet, context = Fleet(either_server), _context(either_server)
    either_server.clock.hold()
    keep(context, MACHINES)
    fleet.later(hours=1)
    others: list[float] = []

    def make(connection: Connection, _: Context) -> int:
        others.append(keep(context, MACHINES))  # another process looks at the same moment
        return _count(connection)

    assert keep(context, dataclasses.replace(MACHINES, make=make)) > 0
    assert others == [0.0]
    with either_server.database.write() as connection:
        ahead = context.clock() + timedelta(minutes=1)
        connection.execute(sa.update(figures).values(claimed_until=ahead))
    fleet.later(seconds=LOOK_SECONDS + 1)
    assert keep(context, MACHINES) == 0.0
    fleet.later(minutes=2)  # whoever had it has died
    assert keep(context, MACHINES) > 0


@pytest.mark.usefixtures("slow")
def test_every_figure_is_kept_as_it_is_made(either_server: Running) -> None:
    _reported(either_server)
    context = _context(either_server)
    made = {each.name: read(context, each).value for each in FIGURES}
    assert Keeper(context, FIGURES).round() > 0
    assert _names(either_server) == sorted(made)
    for each in FIGURES:
        assert read(context, each).value == made[each.name], each.name
    assert made["compliance"] != []
    page = either_server.call("GET", "/")
    assert page.status == 200
    for kind in ("vulnerabilities", "groups/product", "groups/machine?limit=5", "exposures", "days"):
        reply = either_server.call("GET", f"/api/v1/compliance/{kind}")
        assert (reply.status, int(reply.headers["Age"]) >= 0) == (200, True), kind


@pytest.mark.usefixtures("slow")
def test_what_another_version_has_kept_is_made_anew(either_server: Running) -> None:
    context = _context(either_server)
    keep(context, MACHINES)
    with either_server.database.write() as connection:
        connection.execute(sa.update(figures).values(body=b'{"another": 1}'))
    assert read(context, MACHINES).value == 0


def _cve(number: int, each: int) -> str:
    return f"CVE-2026-{(number + each) % 3}" if each else ""


def _reported(server: Running) -> None:
    """Have machines report what is fixed where."""
    places = list(Fixed)
    for number in range(6):
        machine = simple(server, f"m{number}")
        found = tuple(
            Finding(_cve(number, each), places[(number * each) % 4], 7, "x", "x.service", "/x", f"p{each % 2}=1")
            for each in range(number)
        )
        machine.check_in(report=report(release=f"Debian {number % 2}", findings=found))
        either = {"site": str(number % 2)} | ({"role": "web"} if number % 3 else {})
        assert server.call("PUT", f"/api/v1/machines/{machine.id}/tags", {"tags": either}).status == 200
    server.call("DELETE", f"/api/v1/machines/{machine.id}")


def _plainly(connection: Connection, by: str, only: set[str]) -> dict[str, tuple[int, ...]]:
    """Count by reading every finding."""
    named = {row.id: row.name for row in connection.execute(sa.select(machines.c.id, machines.c.name))}
    release = {row.machine_id: row.release for row in connection.execute(sa.select(reports))}
    tagged: dict[str, list[str]] = {}
    for row in connection.execute(sa.select(tags)):
        tagged.setdefault(row.machine_id, []).append(f"{row.name}={row.value}")
    rows: dict[str, list[Any]] = {}
    for row in connection.execute(sa.select(findings)):
        if row.machine_id in only:
            of = {
                "product": [release[row.machine_id]],
                "package": [row.brings],
                "tag": tagged[row.machine_id],
                "machine": [named[row.machine_id]],
            }
            for group in of[by]:
                rows.setdefault(group, []).append(row)
    return {
        group: (
            len({row.machine_id for row in its}),
            len({row.machine_id for row in its if row.fixed in OLD}),
            len({row.cve for row in its if row.fixed in OLD and row.cve}),
            *(sum(row.fixed == place for row in its) for place in ("in-memory", "everywhere", "on-disk", "nowhere")),
        )
        for group, its in rows.items()
    }


def test_groups_are_what_counting_every_finding_gives(either_server: Running) -> None:
    _reported(either_server)
    with either_server.database.read() as connection:
        here = set(connection.scalars(sa.select(machines.c.id).where(machines.c.state != "left")))
        site = sa.select(tags.c.machine_id).where(tags.c.name == "site", tags.c.value == "1")
        some = set(connection.scalars(site)) & here
        for asked, only in ((Query(), here), (Query(tags={"site": "1"}), some)):
            for by in grouping.GROUPS:
                found, total = grouping.groups(connection, by, asked)
                given = {
                    each.name: (
                        each.machines,
                        each.exposed,
                        each.cves,
                        each.in_memory,
                        each.everywhere,
                        each.on_disk,
                        each.nowhere,
                    )
                    for each in found
                }
                assert given == _plainly(connection, by, only), (by, asked)
                assert total == len(given) > 0
                ranks = [(each.exposed, each.cves, each.on_disk + each.nowhere) for each in found]
                assert ranks == sorted(ranks, reverse=True)
                assert grouping.groups(connection, by, asked, 1) == (found[:1], total)
