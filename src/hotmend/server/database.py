"""The database: SQLite in one file, or PostgreSQL.

Tables of all subjects are on one `metadata`; the schema is made by migrations alone, and tests hold both against each
other.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import event
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.types import TypeDecorator

from hotmend.model.errors import HotmendError, InputError

SUBJECTS: Final = (
    "arm",
    "audit",
    "compliance",
    "figures",
    "identity",
    "machines",
    "maintenance",
    "releases",
    "rollouts",
    "webhooks",
)
"""Folders with tables. One that is added here needs a migration."""

_BUSY_MS: Final = 30_000
_SURVEY_MEMORY: Final = "32MB"
_MIGRATION_LOCK: Final = 0x686F746D
_GAVE_WAY: Final = ("40001", "40P01")
"""PostgreSQL's codes of a serialization failure and of a deadlock."""

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Json = sa.JSON().with_variant(JSONB(), "postgresql")
"""A column with JSON in it."""
Id = sa.String(32)
"""A column with an identity: `new_id`."""


class Moment(TypeDecorator[datetime]):
    """A column with an aware moment, in UTC. A naive one is refused: nobody knows which it is."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Take an aware moment alone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give an aware moment; SQLite keeps no zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def new_id() -> str:
    """Return an identity that nobody guesses: 32 hexadecimal digits."""
    return secrets.token_hex(16)


class Database:
    """An open database.

    Attributes:
        url: of it.
        engine: SQLAlchemy's.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _engine(url)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is one file."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a transaction that may write; it is on the disk when the block ends. On SQLite one at a time."""
        with self.engine.connect().execution_options(hotmend_begin="IMMEDIATE") as connection, connection.begin():
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a transaction that only reads."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def survey(self) -> Iterator[Connection]:
        """Give a transaction that only reads, and that looks at all machines: PostgreSQL sorts them in memory."""
        with self.read() as connection:
            if not self.is_sqlite:
                connection.exec_driver_sql(f"SET LOCAL work_mem = '{_SURVEY_MEMORY}'")
            yield connection

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


class Within(Database):
    """A database in a transaction that is under way: what is done is a part of it, and lasts when that one does."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self.url, self.engine = database.url, database.engine
        self._connection = connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give the transaction."""
        yield self._connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give the transaction."""
        yield self._connection


def sqlalchemy_url(url: str) -> sa.URL:
    """Return a URL with the driver that is used here.

    Raises:
        InputError: neither SQLite nor PostgreSQL.
    """
    try:
        made = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise InputError(
            "not the URL of a database", "sqlite:////var/lib/hotmend/server.db or postgresql://USER@HOST/NAME"
        ) from None
    if made.get_backend_name() == "postgresql":
        return made.set(drivername="postgresql+psycopg")
    if made.get_backend_name() == "sqlite":
        return made
    raise InputError(f"{made.get_backend_name()} is not supported", "SQLite and PostgreSQL are")


def _engine(url: str) -> Engine:
    made = sqlalchemy_url(url)
    if made.get_backend_name() == "sqlite":
        engine = sa.create_engine(made, connect_args={"timeout": _BUSY_MS / 1000, "check_same_thread": False})
        event.listen(engine, "connect", _sqlite_connected)
        event.listen(engine, "begin", _sqlite_begun)
        return engine
    return sa.create_engine(made, pool_size=10, max_overflow=20, pool_pre_ping=True)


def _sqlite_connected(connection: Any, record: object) -> None:  # noqa: ARG001 - as SQLAlchemy calls it
    connection.isolation_level = None  # transactions are begun below, not by the driver
    cursor = connection.cursor()
    file: str = cursor.execute("PRAGMA database_list").fetchone()[2]
    for line in (f"busy_timeout={_BUSY_MS}", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {line}")
    with _alone_in(Path(file).parent) if file else nullcontext():
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let one server at a time go into the block.

    A new file becomes one with a write-ahead log under a lock that SQLite does not wait for, whatever the timeout: of
    two servers that begin together one would be told that the database is locked. It is the folder that is locked here:
    who opens and closes the file itself takes SQLite's own locks off it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sqlite_begun(connection: Connection) -> None:
    # A transaction that reads first and writes then would fail where another has written between.
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('hotmend_begin', 'DEFERRED')}")


def load_tables() -> sa.MetaData:
    """Return the metadata with the tables of all subjects on it."""
    for subject in SUBJECTS:
        import_module(f"hotmend.server.{subject}.tables")
    return metadata


def open_database(url: str) -> Database:
    """Open a database and bring its schema up to date. Several servers may do so at once.

    Raises:
        InputError: it cannot be opened.
        HotmendError: its schema is newer than this version knows.
    """
    database = Database(url)
    try:
        migrate(database)
    except sa.exc.SQLAlchemyError as error:
        database.close()
        raise InputError(f"the database cannot be opened: {first_line(error)}") from error
    except BaseException:
        database.close()
        raise
    return database


def migrate(database: Database, target: str = "head") -> None:
    """Take the steps that the schema lacks.

    Raises:
        HotmendError: the schema is newer than this version.
    """
    config = Config()
    config.set_main_option("script_location", "hotmend.server:migrations")
    config.set_main_option("path_separator", "os")
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, target)
        except CommandError as error:
            raise HotmendError(
                f"the schema of the database is not one of this version: {error}",
                "a newer hotmend has used it; go back to a backup of before, or use that version",
            ) from error


def gave_way(error: sa.exc.DBAPIError) -> bool:
    """Say whether a transaction was undone so that another one can go on: it is as good as new when tried again."""
    return getattr(error.orig, "sqlstate", None) in _GAVE_WAY


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
