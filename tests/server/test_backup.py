"""A backup of either database is restored into either, on an empty host; machines go on where they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from hotmend.cli.main import run
from hotmend.model.errors import HotmendError, InputError, UsageError
from hotmend.server.backup import backup, restore
from hotmend.server.database import Database, load_tables, open_database
from hotmend.server.machines.tables import policies
from hotmend.wire.messages import decode_answer
from hotmend.wire.policy import Policy
from tests.server.machine import Simple, report, simple
from tests.server.running import Running, running


def _rows(database: Database) -> dict[str, list[dict[str, Any]]]:
    with database.read() as connection:
        return {
            table.name: [
                dict(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key)).mappings()
            ]
            for table in load_tables().sorted_tables
            if table.name != "policies"
        }


def _filled(server: Running) -> Simple:
    machine = simple(server, "a")
    machine.check_in(report=report(waiting=("nginx=2",)))
    server.post(f"/api/v1/machines/{machine.id}/actions", {"kind": "assess", "reason": "wëll"}, status=202)
    server.call("PUT", f"/api/v1/machines/{machine.id}/tags", {"tags": {"site": "köln"}})
    server.call("PUT", "/api/v1/maintenance/freezes/turn", {"first": "2026-12-24", "last": "2027-01-02"})
    machine.check_in()
    return machine


def test_all_of_it_comes_back(either_server: Running, new_database: Callable[[], str], tmp_path: Path) -> None:
    server, file = either_server, tmp_path / "backup"
    machine = _filled(server)
    written = backup(server.database, file)
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    answer = machine.check_in()
    assert answer.policy is not None
    last = msgspec.json.decode(answer.policy.body, type=Policy).serial
    saved = _rows(server.database)
    other = open_database(new_database())
    assert restore(other, file) == written > 20
    other.close()
    with running(other.url) as restored:
        restored.tokens = server.tokens
        found = _rows(restored.database)
        for table, rows in saved.items():
            if table != "contacts":
                assert found[table] == rows, table
        assert restored.get("/api/v1/audit/verify")["whole"] is True
        assert restored.app.state.context.key.public == server.app.state.context.key.public
        moved = Simple(restored, "a", machine.host, machine.key, machine.counter, machine.id)
        answer = moved.check_in(policy=answer.policy_hash)
        assert answer.policy is not None
        assert msgspec.json.decode(answer.policy.body, type=Policy).serial > last
        assert len(answer.orders) == 1
        assert restored.post(f"/api/v1/machines/{machine.id}/actions", {"kind": "assess"}, status=202)
        assert decode_answer(msgspec.json.encode(answer)) == answer
    with server.database.read() as connection:
        assert connection.execute(sa.select(policies.c.serial)).scalar_one() == last


def test_what_is_no_whole_backup_changes_nothing(
    server: Running, new_database: Callable[[], str], tmp_path: Path
) -> None:
    _filled(server)
    file = tmp_path / "backup"
    backup(server.database, file)
    with pytest.raises(OSError, match="exists"):
        backup(server.database, file)
    with pytest.raises(UsageError):
        restore(server.database, file)
    other = open_database(new_database())
    before = _rows(other)
    data = file.read_bytes()
    for bad in (b"", b"x" * 100, data[: len(data) // 2], data[:-20]):
        broken = tmp_path / "broken"
        broken.write_bytes(bad)
        with pytest.raises(InputError):
            restore(other, broken)
        assert _rows(other) == before
    with other.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001_first'")
    with pytest.raises(HotmendError, match="of schema"):
        restore(other, file)
    other.close()


def test_a_database_on_which_no_server_ran_is_not_what_was_meant(tmp_path: Path) -> None:
    """It would be a backup of nothing, made each night from a folder with a slip in its name."""
    file = tmp_path / "backup"
    assert run(["server", "--state", str(tmp_path / "srever"), "--backup", str(file)]) == 2
    assert not file.exists()


def test_by_command(server: Running, tmp_path: Path) -> None:
    _filled(server)
    file, state = tmp_path / "backup", tmp_path / "state"
    assert run(["server", "--database", server.database.url, "--backup", str(file)]) == 0
    assert run(["server", "--state", str(state), "--restore", str(file)]) == 0
    assert run(["server", "--state", str(state), "--restore", str(file)]) == 2
    restored = open_database(f"sqlite:///{state / 'server.db'}")
    assert _rows(restored) == _rows(server.database)
    restored.close()
