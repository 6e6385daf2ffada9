"""Telling webhooks what waits for them: at least once, oldest first, tried again with longer and longer pauses.

The body is signed: `Hotmend-Signature: t=SECONDS,v1=HEX`, the HMAC-SHA256 of `SECONDS.BODY` with the webhook's secret.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import urllib3
from sqlalchemy.engine import RowMapping

from hotmend import __version__
from hotmend.server.context import Context
from hotmend.server.webhooks import store
from hotmend.server.worker import Worker

EVENTS_MAX: Final = 100
"""In one request."""
_SECONDS: Final = 10.0
_CLAIM: Final = timedelta(seconds=60)
"""Longer than a request takes."""
_PAUSE_SECONDS_MAX: Final = 3600
_LOOK_SECONDS: Final = 1.0
_LOG: Final = logging.getLogger("hotmend.server.webhooks")


def tell(context: Context) -> bool:
    """Tell one webhook what waits for it; False: nothing was to be told."""
    now = context.clock()
    with context.database.write() as connection:
        hook = store.claim(connection, now, now + _CLAIM)
        found = [] if hook is None else store.waiting(connection, hook["id"], EVENTS_MAX)
        others = [] if hook is None else store.notices_waiting(connection, hook["id"], EVENTS_MAX)
    if hook is None:
        return False
    told = sorted([_of_rollout(row) for row in found] + [_of_notice(row) for row in others], key=_at)[:EVENTS_MAX]
    body = msgspec.json.encode({"server": context.settings.public_url, "events": told})
    trouble = _send(hook, body, int(now.timestamp()))
    ids = set() if trouble else {each["id"] for each in told}
    taken = [row["id"] for row in found if row["id"] in ids]
    noticed = [row["id"] for row in others if _notice_id(row) in ids]
    failures = hook["failures"] + 1 if trouble else 0
    pause = min(2 ** min(failures, 20), _PAUSE_SECONDS_MAX) if trouble else 0
    values = {"failures": failures, "last": (trouble or "taken")[:500], "next_at": now + timedelta(seconds=pause)}
    delivery = {"at": now, "events": len(told), "taken": not trouble, "outcome": values["last"]}
    with context.database.write() as connection:
        if store.settle(connection, hook["id"], taken, noticed, values):
            store.insert_delivery(connection, hook["id"], delivery)
    return True


def _at(event: Mapping[str, Any]) -> datetime:
    """Return by what events are told in their order; of one moment they keep the order of their rows."""
    at: datetime = event["at"]
    return at


def _of_rollout(row: RowMapping) -> dict[str, Any]:
    return {
        "id": row["id"],
        "at": row["at"],
        "what": row["what"],
        "who": row["who"],
        "group": row["group_number"],
        "why": row["why"],
        "rollout": {"id": row["rollout_id"], "name": row["name"], "lane": row["lane"], "state": row["state"]},
    }


def _of_notice(row: RowMapping) -> dict[str, Any]:
    return {"id": _notice_id(row), "at": row["at"], "what": row["what"], **row["content"]}


def _notice_id(row: RowMapping) -> str:
    """Return an id that no event of a rollout has: theirs are numbers."""
    return f"notice-{row['id']}"


def signature(secret: str, seconds: int, body: bytes) -> str:
    """Return the header that signs a body."""
    made = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={made}"


def _send(hook: RowMapping, body: bytes, seconds: int) -> str:
    """Send a body; return what went wrong, "" for nothing."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"hotmend/{__version__}",
        "Hotmend-Signature": signature(hook["secret"], seconds, body),
    }
    try:
        with urllib3.PoolManager(1) as pool:
            answer = pool.request(
                "POST",
                hook["url"],
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(total=_SECONDS),
                retries=False,
                redirect=False,
                preload_content=False,  # what it answers is not read: nobody knows how long it is
            )
            answer.close()
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "" if 200 <= answer.status < 300 else f"status {answer.status}"


class Messenger(Worker):
    """Tells webhooks, in a thread of a server process.

    Args:
        context: of the process.
    """

    def __init__(self, context: Context) -> None:
        super().__init__("webhooks", _LOOK_SECONDS)
        self._context = context

    def _round(self) -> None:
        while not self._leaving.is_set() and tell(self._context):
            pass
