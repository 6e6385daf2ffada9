"""A database of each older version, with data of a real fleet, is brought up to date; its machines go on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from hotmend.server.database import Database, load_tables, migrate
from hotmend.server.machines.tables import PLACES, machines, reports
from tests.server.machine import Simple, report, simple
from tests.server.running import Running, running

_STEPS = [step.revision for step in ScriptDirectory("src/hotmend/server/migrations").walk_revisions()][:0:-1]
"""Versions of the schema before this one, oldest first."""


def _filled(server: Running) -> tuple[Simple, str]:
    """Fill a server with what a fleet leaves in it; return a machine, and an action that is due there."""
    machine = simple(server, "a")
    machine.check_in(report=report(waiting=("nginx=2",)))
    server.call("PUT", f"/api/v1/machines/{machine.id}/tags", {"tags": {"site": "köln"}})
    done = server.post(f"/api/v1/machines/{machine.id}/actions", {"kind": "assess", "reason": "wëll"}, status=202)
    return machine, str(done["id"])


def copied(server: Running, old: Database) -> dict[str, int]:
    """Put what a server has into a database of an older version, as far as that has tables and columns for it."""
    there = sa.MetaData()
    there.reflect(old.engine)
    counts = {}
    with server.database.read() as connection, old.write() as older:
        for table in load_tables().sorted_tables:
            if (known := there.tables.get(table.name)) is None:
                continue
            columns = [column for column in table.columns if column.name in known.columns]
            target = sa.table(table.name, *(sa.column(column.name, column.type) for column in columns))
            rows = [dict(row) for row in connection.execute(sa.select(*columns)).mappings()]
            if rows:
                older.execute(sa.insert(target), rows)
            counts[table.name] = len(rows)
    return counts


@pytest.mark.parametrize("step", [_STEPS[0], _STEPS[-1]], ids=["first", "one-before"])
def test_a_fleet_goes_on_after_an_upgrade(server: Running, new_database: Callable[[], str], step: str) -> None:
    machine, action = _filled(server)
    old = Database(new_database())
    migrate(old, step)
    counts = copied(server, old)
    assert sum(counts.values()) > 15
    old.close()
    with running(old.url) as upgraded:
        upgraded.tokens = server.tokens
        with upgraded.database.read() as connection:
            for name, count in counts.items():
                table = load_tables().tables[name]
                assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == count, name
        moved = Simple(upgraded, "a", machine.host, machine.key, machine.counter, machine.id)
        assert [order.id for order in moved.check_in().orders] == [action]
        shown = upgraded.get(f"/api/v1/machines/{machine.id}")
        assert (shown["machine"]["tags"], shown["report"]["waiting"]) == ({"site": "köln"}, ["nginx=2"])
        assert upgraded.get(f"/api/v1/actions/{action}")["reason"] == "wëll"
        assert upgraded.get("/api/v1/audit/verify")["whole"] is True
        with upgraded.database.read() as connection:
            kept = connection.execute(sa.select(machines.c.labels, machines.c.clock)).one()
            counted = connection.execute(sa.select(*(reports.c[each] for each in (*PLACES, "cves")))).one()
        assert tuple(kept) == ('{"site":"köln"}', "Europe/Berlin")
        assert counted._asdict() == {"in_memory": 1, "everywhere": 0, "on_disk": 1, "nowhere": 0, "cves": 1}
        # What came with later versions works on the old rows.
        wanted = {"name": "all", "updates": ["nginx=2"], "rings": [{"name": "rest"}]}
        preview = upgraded.post("/api/v1/rollouts/preview", wanted, role="operator", status=200)
        assert preview["machines"] == 1
        assert upgraded.call("PUT", "/api/v1/maintenance/configurations/default", {"mode": "notify"}).status == 200
