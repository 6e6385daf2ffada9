"""Making figures anew, in a thread of a server process."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import RowMapping
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from hotmend.server.context import Context
from hotmend.server.figures.kept import QUICK_MS, Figure
from hotmend.server.figures.tables import figures
from hotmend.server.worker import Worker

LOOK_SECONDS: Final = 10.0
"""Between two rounds, at least."""
SHARE: Final = 20
"""After what took a second it rests for so many: making figures costs at most a twentieth of a processor."""
_CLAIM: Final = timedelta(minutes=2)
_LOG: Final = logging.getLogger("hotmend.server.figures")


class Keeper(Worker):
    """Makes figures anew, one after another; of several server processes one makes each.

    Args:
        context: of the server process.
        kept: what is made.
    """

    def __init__(self, context: Context, kept: Sequence[Figure[Any]]) -> None:
        super().__init__("figures", LOOK_SECONDS)
        self._context, self._kept = context, kept

    def round(self) -> float:
        """Make each figure that nobody has made just now; return the seconds that it took."""
        spent = 0.0
        for each in self._kept:
            if self._leaving.is_set():
                break
            try:
                spent += keep(self._context, each)
            except SQLAlchemyError as error:
                _LOG.warning("%s is not counted: %s", each.name, error)
        return spent

    def _round(self) -> float:
        return max(LOOK_SECONDS, SHARE * self.round())


def keep(context: Context, figure: Figure[Any]) -> float:
    """Make a figure anew where no other process does; return the seconds that it took. What is quick has no row."""
    before = _row(context, figure.name)
    if before is not None and not _claimed(context, before):
        return 0.0
    began = time.monotonic()
    with context.database.survey() as connection:
        now = context.clock()
        body = msgspec.json.encode(figure.make(connection, context))
    took = time.monotonic() - began
    values = {"at": now, "took_ms": round(took * 1000), "claimed_until": None, "body": body}
    # Between half of the limit and the limit it stays as it is, so that it does not go to and fro.
    limit = QUICK_MS if before is None else QUICK_MS / 2
    own = figures.c.name == figure.name
    if took * 1000 <= limit:
        if before is not None:
            with context.database.write() as connection:
                connection.execute(sa.delete(figures).where(own))
        return took
    try:
        with context.database.write() as connection:
            if not connection.execute(sa.update(figures).where(own).values(values)).rowcount:
                connection.execute(sa.insert(figures).values(name=figure.name, **values))
    except IntegrityError:
        pass  # another process has made it for the first time meanwhile
    return took


def _row(context: Context, name: str) -> RowMapping | None:
    columns = (figures.c.name, figures.c.at, figures.c.took_ms, figures.c.claimed_until)
    with context.database.read() as connection:
        return connection.execute(sa.select(*columns).where(figures.c.name == name)).mappings().one_or_none()


def _claimed(context: Context, before: RowMapping) -> bool:
    """Take a figure on; False: it is young enough, or another process makes it."""
    now = context.clock()
    rests = max(timedelta(seconds=LOOK_SECONDS), SHARE * timedelta(milliseconds=before["took_ms"]))
    if timedelta() <= now - before["at"] < rests:
        return False
    free = figures.c.claimed_until.is_(None) | (figures.c.claimed_until < now)
    which = (figures.c.name == before["name"]) & (figures.c.at == before["at"]) & free
    with context.database.write() as connection:
        changed = sa.update(figures).where(which).values(claimed_until=now + _CLAIM)
        return connection.execute(changed).rowcount == 1
