"""Following a signed channel: what was verified is kept as rows, for pages and for exposure times.

The server only reads, and somebody else verifies for it (`repository.catalogue`): it holds no key, and cannot make what
it shows. What cannot be verified is not kept; the page says since when, and why.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from hotmend.model.errors import HotmendError
from hotmend.model.verdict import Reason
from hotmend.server.context import Context
from hotmend.server.releases import store
from hotmend.server.worker import Worker
from hotmend.wire.catalogue import Offered

LOOK_SECONDS: Final = 900.0
_LOG: Final = logging.getLogger("hotmend.server.releases")


@dataclass(frozen=True, slots=True)
class Followed:
    """A channel that is followed.

    Attributes:
        name, tier: of it.
        source: address, folder or archive, for people.
        look: says what it offers now, or why it cannot be believed; raises HotmendError where it is not reached.
    """

    name: str
    tier: str
    source: str
    look: Callable[[], list[Offered] | Reason]


def follow(context: Context, followed: Followed) -> str:
    """Look at a channel once, and keep what it offers; return why it is not believed, "" where it is."""
    found: list[Offered] | Reason = []
    try:
        found = followed.look()
        refused = found.sentence if isinstance(found, Reason) else ""
    except HotmendError as error:
        refused = str(error)
    now = context.clock()
    values: dict[str, Any] = {"source": followed.source[:1000], "looked_at": now, "refused": refused[:1000]}
    if not refused:
        values["good_at"] = now
    with context.database.write() as connection:
        store.put_channel(connection, followed.name, followed.tier, values)
        if not refused and not isinstance(found, Reason):
            store.put_releases(connection, followed.name, followed.tier, map(msgspec.structs.asdict, found))
    return refused


class Follower(Worker):
    """Looks at a channel again and again, in a thread of a server process.

    Args:
        context: of the process.
        followed: the channel.
    """

    def __init__(self, context: Context, followed: Followed) -> None:
        super().__init__("channel", LOOK_SECONDS)
        self._context, self._followed = context, followed

    def _round(self) -> None:
        if refused := follow(self._context, self._followed):
            _LOG.warning("the channel is not followed: %s", refused)
