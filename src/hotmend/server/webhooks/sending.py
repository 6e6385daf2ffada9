"""Telling webhooks what waits for them: at least once, oldest first, tried again with longer and longer pauses.

Several are told at once, so that one that does not answer holds up nobody but itself.

The body is signed: `Hotmend-Signature: t=SECONDS,v1=HEX`, the HMAC-SHA256 of `SECONDS.BODY` with the webhook's secret.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy.engine import RowMapping

from hotmend import __version__
from hotmend.server.context import Context
from hotmend.server.webhooks import store
from hotmend.server.webhooks.posting import post
from hotmend.server.worker import Worker

EVENTS_MAX: Final = 100
"""In one request."""
AT_ONCE: Final = 8
"""Requests of a server process."""
_SECONDS: Final = 10.0
"""For a request, from looking the name up to the answer."""
_CLAIM: Final = timedelta(seconds=60)
"""Longer than a request takes."""
_PAUSE_SECONDS_MAX: Final = 3600
_LOOK_SECONDS: Final = 1.0
_LOG: Final = logging.getLogger("hotmend.server.webhooks")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A webhook that nobody else tells anything for a while, and what it is told.

    Attributes:
        hook: its row.
        at: when it was claimed.
        told: events, oldest first.
        taken: rows of the events of rollouts among them.
        noticed: rows of the notices among them.
    """

    hook: RowMapping
    at: datetime
    told: list[dict[str, Any]]
    taken: list[int]
    noticed: list[int]


def tell(context: Context) -> bool:
    """Tell one webhook what waits for it; False: nothing was to be told."""
    claimed = claim(context)
    if claimed is not None:
        deliver(context, claimed)
    return claimed is not None


def claim(context: Context) -> Claimed | None:
    """Return the webhook that has waited longest; None: nothing is to be told."""
    now = context.clock()
    with context.database.write() as connection:
        hook = store.claim(connection, now, now + _CLAIM)
        if hook is None:
            return None
        found = store.waiting(connection, hook["id"], EVENTS_MAX)
        others = store.notices_waiting(connection, hook["id"], EVENTS_MAX)
    told = sorted([_of_rollout(row) for row in found] + [_of_notice(row) for row in others], key=_at)[:EVENTS_MAX]
    ids = {each["id"] for each in told}
    taken, noticed = ([row["id"] for row in rows if row["told_as"] in ids] for rows in (found, others))
    return Claimed(hook, now, told, taken, noticed)


def deliver(context: Context, claimed: Claimed) -> None:
    """Send what a webhook is told, and keep how that went."""
    hook = claimed.hook
    body = msgspec.json.encode({"server": context.settings.public_url, "events": claimed.told})
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"hotmend/{__version__}",
        "Hotmend-Signature": signature(hook["secret"], int(claimed.at.timestamp()), body),
    }
    trouble = post(hook["url"], headers, body, _SECONDS)
    failures = hook["failures"] + 1 if trouble else 0
    pause = min(2 ** min(failures, 20), _PAUSE_SECONDS_MAX) if trouble else 0
    again = context.clock() + timedelta(seconds=pause)
    values = {"failures": failures, "last": (trouble or "taken")[:500], "next_at": again}
    delivery = {"at": claimed.at, "events": len(claimed.told), "taken": not trouble, "outcome": values["last"]}
    taken, noticed = ([], []) if trouble else (claimed.taken, claimed.noticed)
    with context.database.write() as connection:
        if store.settle(connection, hook["id"], taken, noticed, values):
            store.insert_delivery(connection, hook["id"], delivery)


def _at(event: Mapping[str, Any]) -> datetime:
    """Return by what events are told in their order; of one moment they keep the order of their rows."""
    at: datetime = event["at"]
    return at


def _of_rollout(row: RowMapping) -> dict[str, Any]:
    return {
        "id": row["told_as"],
        "number": row["id"],
        "at": row["at"],
        "what": row["what"],
        "who": row["who"],
        "group": row["group_number"],
        "why": row["why"],
        "rollout": {"id": row["rollout_id"], "name": row["name"], "lane": row["lane"], "state": row["state"]},
    }


def _of_notice(row: RowMapping) -> dict[str, Any]:
    return {"id": row["told_as"], "at": row["at"], "what": row["what"], **row["content"]}


def signature(secret: str, seconds: int, body: bytes) -> str:
    """Return the header that signs a body."""
    made = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={made}"


class Messenger(Worker):
    """Tells webhooks, in threads of a server process.

    Args:
        context: of the process.
    """

    def __init__(self, context: Context) -> None:
        super().__init__("webhooks", _LOOK_SECONDS)
        self._context = context

    def _round(self) -> None:
        """Claim what waits while others are told, and end when nobody is."""
        with ThreadPoolExecutor(AT_ONCE, "webhooks") as pool:
            busy: set[Future[None]] = set()
            while not self._leaving.is_set():
                claimed = claim(self._context) if len(busy) < AT_ONCE else None
                if claimed is not None:
                    busy.add(pool.submit(deliver, self._context, claimed))
                    continue
                if not busy:
                    return
                done, busy = wait(busy, _LOOK_SECONDS, FIRST_COMPLETED)
                for each in done:
                    each.result()
                    self._trouble = ""
