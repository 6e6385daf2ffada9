"""Who is alive among the processes that share a PostgreSQL database.

Each process holds an advisory lock of its own for as long as it lives. The server gives the lock back when the
connection ends, whatever ended it: no clock is compared and nothing has to be written again and again. Whoever gets
the lock of another process knows that it is gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from hotmend.model.errors import InputError

_KEEPALIVE = {"keepalives": 1, "keepalives_idle": 20, "keepalives_interval": 5, "keepalives_count": 4}


class Liveness:
    """The lock of this process, and a look at those of others.

    Args:
        database: URL of the PostgreSQL database.
        name: of this process, unlike that of any other.

    Raises:
        InputError: the database cannot be reached.
    """

    def __init__(self, database: str, name: str) -> None:
        url = sa.make_url(database).set(drivername="postgresql+psycopg")
        self._engine = sa.create_engine(
            url, isolation_level="AUTOCOMMIT", connect_args=_KEEPALIVE, pool_size=2, pool_pre_ping=True
        )
        try:
            self._own = self._engine.connect()
            # The server notices within a minute that a machine has lost its power.
            self._own.execute(sa.text("SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 10"))
            self._own.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": _key(name)})
        except sa.exc.SQLAlchemyError as error:
            line = str(error.__cause__ or error).strip().splitlines()[0]
            raise InputError(f"the database of the queue cannot be reached: {line}") from error

    @contextmanager
    def if_dead(self, name: str) -> Iterator[bool]:
        """Give whether the process `name` is gone; while the block runs, nobody else is told the same."""
        key = {"key": _key(name)}
        with self._engine.connect() as connection:
            dead = bool(connection.scalar(sa.text("SELECT pg_try_advisory_lock(:key)"), key))
            try:
                yield dead
            finally:
                if dead:
                    connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), key)

    def close(self) -> None:
        """Give the lock back."""
        self._own.close()
        self._engine.dispose()


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"hotmend-survey {name}".encode()).digest()[:8], "big", signed=True)
