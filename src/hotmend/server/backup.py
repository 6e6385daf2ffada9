"""Backup and restore: all rows in one file, from one moment, for SQLite and PostgreSQL alike.

The file is zstandard-compressed lines of JSON: the schema's step, then each table's name and rows, then how many there
were. It holds the server's own key and everything about its machines: keep it like a key. What a backup cannot know is
what happened after it; `restore` makes room for that.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa
import zstandard
from sqlalchemy.engine import Connection

from hotmend.model.errors import InputError, UsageError
from hotmend.server.database import Database, Moment, load_tables
from hotmend.server.machines.tables import policies
from hotmend.server.rollouts.store import forget_steered

FORM: Final = "hotmend server backup 1"
LINE_BYTES_MAX: Final = 64 << 20
SERIALS_AHEAD: Final = 1_000_000
"""By how much policies are ahead after a restore: machines may have seen later ones than the backup has."""
_ROWS: Final = 500


class _Head(msgspec.Struct):
    form: str
    step: str


class _Line(msgspec.Struct):
    """Rows of a table; with `total` instead of rows, the end of the file."""

    table: str = ""
    rows: list[dict[str, Any]] = []
    total: int | None = None


def backup(database: Database, file: Path) -> int:
    """Write all rows as of now into a new file, readable for its owner alone; return how many.

    Raises:
        UsageError: no server has ever run on the database: this is another one than was meant.
        OSError: the file is there already, or cannot be written.
    """
    with database.read() as connection:
        keys = connection.execute(sa.select(sa.func.count()).select_from(load_tables().tables["server_keys"])).scalar()
    if not keys:
        raise UsageError("no server has its rows in this database", "--database or --state as the server has it")
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    total = 0
    with os.fdopen(descriptor, "wb") as stream:
        with zstandard.ZstdCompressor(level=3).stream_writer(stream, closefd=False) as packed:
            with database.engine.connect() as connection:
                if not database.is_sqlite:
                    connection = connection.execution_options(isolation_level="REPEATABLE READ")  # noqa: PLW2901
                with connection.begin():
                    packed.write(_encoded(_Head(FORM, _step(connection))))
                    for table, rows in _read(connection):
                        packed.write(_encoded(_Line(table, rows)))
                        total += len(rows)
            packed.write(_encoded(_Line(total=total)))
        stream.flush()
        os.fsync(descriptor)
    return total


def restore(database: Database, file: Path) -> int:
    """Put a backup's rows into a database that has none, in one transaction; return how many.

    Raises:
        UsageError: the database has users already.
        InputError: the file is no backup, was cut off, or is of another version.
    """
    tables = load_tables().tables
    total = 0
    with database.write() as connection, file.open("rb") as stream:
        if connection.execute(sa.select(sa.func.count()).select_from(tables["users"])).scalar_one():
            raise UsageError("this database has users already", "restore into an empty one")
        lines = _lines(zstandard.ZstdDecompressor().stream_reader(stream), file)
        _check_head(next(lines, b""), connection, file)
        for table in reversed(load_tables().sorted_tables):
            connection.execute(sa.delete(table))  # what the schema's own steps put there is in the backup too
        for data in lines:
            line = _decoded(data, _Line, file)
            if line.total is not None:
                if line.total != total:
                    raise InputError(f"{file}: {total} rows, and {line.total} were written")
                _go_ahead(connection, database)
                return total
            if line.table not in tables:
                raise InputError(f"{file}: there is no table {line.table[:100]}")
            connection.execute(sa.insert(tables[line.table]), [_given(tables[line.table], row) for row in line.rows])
            total += len(line.rows)
        raise InputError(f"{file}: it was cut off")


def _go_ahead(connection: Connection, database: Database) -> None:
    """Let what is made from now on come after what was made between backup and restore."""
    ahead = sa.update(policies).values(serial=policies.c.serial + SERIALS_AHEAD, expires_at=policies.c.issued_at)
    connection.execute(ahead)  # one that is over is signed anew at the next check-in
    forget_steered(connection)
    if database.is_sqlite:
        return
    for table in load_tables().sorted_tables:
        for column in table.primary_key:
            name = connection.execute(
                sa.text("SELECT pg_get_serial_sequence(:table, :column)"), {"table": table.name, "column": column.name}
            ).scalar_one()
            if name is not None:
                most = connection.execute(sa.select(sa.func.coalesce(sa.func.max(column), 0) + 1)).scalar_one()
                connection.execute(sa.text("SELECT setval(:name, :value, false)"), {"name": name, "value": most})


def _read(connection: Connection) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield all tables with some rows each, those first that others refer to."""
    for table in load_tables().sorted_tables:
        query = sa.select(table).order_by(*table.primary_key)
        with connection.execute(query, execution_options={"yield_per": _ROWS}) as result:
            for rows in result.mappings().partitions():
                yield str(table.name), [{str(name): _taken(value) for name, value in row.items()} for row in rows]


def _taken(value: Any) -> Any:
    if isinstance(value, bytes | memoryview):
        return {"base64": base64.b64encode(value).decode()}
    return value


def _given(table: sa.Table, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as the database takes it."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        kind = table.c[name].type
        if value is not None and isinstance(kind, sa.LargeBinary):
            found[name] = base64.b64decode(value["base64"], validate=True)
        elif value is not None and isinstance(kind, Moment):
            found[name] = msgspec.convert(value, datetime)
        elif value is not None and isinstance(kind, sa.Date):
            found[name] = date.fromisoformat(value)
        else:
            found[name] = value
    return found


def _step(connection: Connection) -> str:
    return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())


def _check_head(data: bytes, connection: Connection, file: Path) -> None:
    head = _decoded(data, _Head, file)
    if head.form != FORM:
        raise InputError(f"{file}: not a backup of a server")
    if head.step != (step := _step(connection)):
        raise InputError(
            f"{file}: of schema {head.step}, and this version has {step}",
            "restore with the version that wrote it, and upgrade then",
        )


def _encoded(value: msgspec.Struct) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def _decoded(data: bytes, kind: type[Any], file: Path) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{file}: not a backup of a server: {error}") from None


def _lines(reader: zstandard.ZstdDecompressionReader, file: Path) -> Iterator[bytes]:
    left = b""
    try:
        while part := reader.read(1 << 20):
            *whole, left = (left + part).split(b"\n")
            yield from whole
            if len(left) > LINE_BYTES_MAX:
                raise InputError(f"{file}: a line of more than {LINE_BYTES_MAX} bytes")
    except zstandard.ZstdError as error:
        raise InputError(f"{file}: not a backup of a server: {error}") from None
