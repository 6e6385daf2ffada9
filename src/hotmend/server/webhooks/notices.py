"""What webhooks are told that is no event of a rollout: rows of the transaction in which it happened."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotmend.server.webhooks.tables import notice_outbox, notices, webhooks


def of_windows(connection: Connection, now: datetime, what: str, content: Mapping[str, Any]) -> None:
    """Have the webhooks told that are told of windows."""
    _tell(connection, now, what, content, webhooks.c.windows)


def trial(connection: Connection, now: datetime, webhook: str) -> None:
    """Have one webhook told that it is tried."""
    _tell(connection, now, "test", {}, webhooks.c.id == webhook)


def _tell(
    connection: Connection, now: datetime, what: str, content: Mapping[str, Any], whom: sa.ColumnElement[bool]
) -> None:
    if connection.scalar(sa.select(sa.exists().where(whom))):
        values = {"at": now, "what": what, "content": content}
        number = connection.scalar(sa.insert(notices).values(values).returning(notices.c.id))
        told = sa.select(webhooks.c.id, sa.literal(number, notices.c.id.type)).where(whom)
        connection.execute(sa.insert(notice_outbox).from_select(["webhook_id", "notice_id"], told))


def forget_told(connection: Connection) -> None:
    """Forget what nobody is to be told any more."""
    waits = sa.exists().where(notice_outbox.c.notice_id == notices.c.id)
    connection.execute(sa.delete(notices).where(~waits))
