"""The schema by migration is the schema of the tables, on both databases; what is written stays what it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from hotmend.model.errors import HotmendError, InputError
from hotmend.server.audit.store import append, verify
from hotmend.server.audit.tables import audit, audit_head
from hotmend.server.database import Database, load_tables, metadata, migrate, new_id, open_database
from hotmend.server.identity.tables import users


def _schema(url: str) -> dict[str, Any]:
    """All that the database says of its tables."""
    database = Database(url)
    inspector = sa.inspect(database.engine)
    found: dict[str, Any] = {}
    for table in sorted(set(inspector.get_table_names()) - {"alembic_version"}):
        found[table] = {
            "columns": [
                (each["name"], str(each["type"]), each["nullable"], str(each["default"]).split("::")[0])
                for each in sorted(inspector.get_columns(table), key=lambda each: each["name"])
            ],
            "key": inspector.get_pk_constraint(table)["constrained_columns"],
            "foreign": sorted(map(str, inspector.get_foreign_keys(table))),
            "unique": sorted(map(str, inspector.get_unique_constraints(table))),
            "checks": sorted(f"{each['name']} {each['sqltext']}" for each in inspector.get_check_constraints(table)),
            "indexes": sorted(
                f"{each['name']} {each['column_names']} {each['unique']}"
                f" {[str(option) for option in each.get('dialect_options', {}).values()]}"
                for each in inspector.get_indexes(table)
            ),
        }
    database.close()
    return found


def test_the_schema_by_migration_is_that_of_the_tables(new_database: Callable[[], str]) -> None:
    migrated, made = new_database(), new_database()
    open_database(migrated).close()
    database = Database(made)
    load_tables().create_all(database.engine)
    database.close()
    assert len(_schema(migrated)) > 15
    assert _schema(migrated) == _schema(made)


def test_nothing_is_left_to_migrate(ready_url: str) -> None:
    database = open_database(ready_url)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    database.close()


def test_there_is_one_last_step() -> None:
    scripts = ScriptDirectory("src/hotmend/server/migrations")
    assert len(scripts.get_heads()) == 1
    names = [step.revision for step in scripts.walk_revisions()]
    assert names == sorted(names, reverse=True)


def test_a_schema_of_a_newer_version_is_refused(ready_url: str) -> None:
    database = open_database(ready_url)
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999_later'")
    with pytest.raises(HotmendError, match="not one of this version"):
        migrate(database)
    database.close()


def test_several_servers_may_migrate_at_once(database_url: str) -> None:
    errors: list[BaseException] = []

    def start() -> None:
        try:
            open_database(database_url).close()
        except BaseException as error:  # noqa: BLE001 - the test says which
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_several_servers_may_make_the_file_at_once(tmp_path: Path) -> None:
    """SQLite waits for no lock while a file becomes one with a write-ahead log: once in twenty times one failed."""
    errors: list[BaseException] = []

    def connect(url: str, together: threading.Barrier) -> None:
        database = Database(url)
        together.wait()
        try:
            with database.write():
                pass
        except BaseException as error:  # noqa: BLE001 - the test says which
            errors.append(error)
        database.close()

    for number in range(80):
        together = threading.Barrier(6)
        arguments = f"sqlite:///{tmp_path / f'{number}.db'}", together
        threads = [threading.Thread(target=connect, args=arguments) for _ in range(together.parties)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []


@pytest.mark.parametrize("url", ["mysql://host/name", "no url"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(InputError):
        open_database(url)


def test_moments_are_aware_and_stay_the_same(ready_url: str) -> None:
    database = open_database(ready_url)
    moment = datetime(2026, 11, 29, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=5)))
    values = {"id": new_id(), "name": "one", "role": "viewer"}
    with database.write() as connection:
        connection.execute(sa.insert(users).values(**values, created_at=moment))
    with database.read() as connection:
        found = connection.execute(sa.select(users.c.created_at)).scalar_one()
    assert found == moment
    assert found.tzinfo is UTC
    with pytest.raises(sa.exc.StatementError, match="time zone"), database.write() as connection:
        connection.execute(sa.update(users).values(disabled_at=moment.replace(tzinfo=None)))
    database.close()


def _record(database: Database, count: int) -> None:
    for number in range(count):
        with database.write() as connection:
            append(connection, datetime.now(UTC), "root", "test", str(number), {"ü": number, "a": [1]})


def test_the_audit_record_shows_every_change(ready_url: str) -> None:
    database = open_database(ready_url)
    with database.read() as connection:
        assert verify(connection).wrong == ""
    _record(database, 5)
    with database.read() as connection:
        whole = verify(connection)
        last = connection.execute(sa.select(audit).order_by(audit.c.number.desc())).mappings().first()
    assert (whole.rows, whole.wrong) == (5, "")
    assert last is not None
    changes: dict[str, sa.Executable] = {
        "row 3 is not as it was written": sa.update(audit).where(audit.c.number == 3).values(actor="nobody"),
        "row 2 is missing": sa.delete(audit).where(audit.c.number == 2),
        "row 1 is missing": sa.delete(audit).where(audit.c.number == 1),
        "rows after 4 are missing": sa.delete(audit).where(audit.c.number == 5),
        "rows after 5 are missing": sa.update(audit_head).values(hash="f" * 64),
        "row 5 is not as it was written": sa.update(audit).where(audit.c.number == 5).values(at=datetime.now(UTC)),
    }
    for expected, change in changes.items():
        with database.engine.connect() as connection, connection.begin() as transaction:
            connection.execute(change)
            assert verify(connection).wrong == expected
            transaction.rollback()
    database.close()


def test_audit_rows_that_are_written_at_once_follow_each_other(ready_url: str) -> None:
    database = open_database(ready_url)
    _record(database, 1)
    threads = [threading.Thread(target=_record, args=(database, 10)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        found = verify(connection)
    assert (found.rows, found.wrong) == (41, "")
    database.close()
