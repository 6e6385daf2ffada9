"""The audit record is read back by itself: what was appended each minute, all of it once a day.

What was read is remembered, in the database and by each process: a record that was written anew from its first row
follows from itself, but is not the one that was read before. What was found wrong stays so until an administrator has
had the whole record read and says that it is over.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.engine import Connection

from hotmend.server.audit import store
from hotmend.server.audit.store import Verdict
from hotmend.server.context import Context
from hotmend.server.problem import conflict
from hotmend.server.worker import Worker

WHOLE_EACH: Final = timedelta(days=1)
_LOOK_SECONDS: Final = 60.0
_LOG: Final = logging.getLogger("hotmend.server.audit")


class Auditor(Worker):
    """Reads the record back, in a thread of a server process.

    Args:
        context: of the process.
    """

    def __init__(self, context: Context) -> None:
        super().__init__("audit", _LOOK_SECONDS)
        self._context = context
        self._seen: Verdict | None = None
        self._whole_at: datetime | None = None

    def look(self) -> str:
        """Read once; return what is wrong, "" where nothing is."""
        now = self._context.clock()
        whole = self._whole_at is None or now - self._whole_at >= WHOLE_EACH
        with self._context.database.read() as connection:
            found = store.verify(connection, None if whole else self._seen, self._go_on)
            kept = store.kept(connection)
            before = [each for each in (self._seen, kept) if each is not None]
            wrong = next(filter(None, (_rewritten(connection, each) for each in before)), found.wrong)
        with self._context.database.write() as connection:
            store.keep(connection, now, Verdict(found.rows, found.head, wrong))
        if wrong:
            _LOG.error("the audit record is not as it was written: %s", wrong)
            self._seen = None  # it is written down now, and over when somebody says so
            return wrong
        self._seen, self._whole_at = found, now if whole else self._whole_at
        return ""

    def _round(self) -> None:
        self.look()


def _rewritten(connection: Connection, before: Verdict) -> str:
    """Return what is wrong where the last row that was read before is another one now; "" where it is the same."""
    if before.rows and store.hash_of(connection, before.rows) != before.head:
        return f"row {before.rows} is not the one that was read before"
    return ""


def accept(context: Context, actor: str) -> Verdict:
    """Have what was found wrong be over, where the whole record follows from itself now.

    Raises:
        Problem: it does not.
    """
    now = context.clock()
    with context.database.write() as connection:
        found = store.verify(connection)
        if found.wrong:
            raise conflict("audit-wrong", f"the record is not as it was written: {found.wrong}")
        kept = store.kept(connection)
        wrong = kept.wrong if kept is not None else ""
        store.append(connection, now, actor, "audit.accept", "", {"rows": found.rows, "wrong": wrong})
        store.keep(connection, now, store.verify(connection), over=True)
    return found
