"""Policies: what machines may do, signed anew before they end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotmend.server.machines.tables import policies
from hotmend.server.settings import Settings
from hotmend.wire.keys import SigningKey
from hotmend.wire.messages import SignedPolicy
from hotmend.wire.policy import Policy, policy_hash, sign_policy

DEFAULT: Final = "default"
HOTPATCH_OFF: Final = ".hotpatch-off"
"""Of machines whose feature is switched off: they say what waits, and nothing more. It has no content of its own."""
RENEW_PART: Final = 4
"""A policy is signed anew when one part of so many of its life is over."""


@dataclass(frozen=True, slots=True)
class Current:
    """A policy in force: its hash, what is sent, and whether its windows stay closed without a word."""

    hash: str
    signed: SignedPolicy
    events: bool = False


def current(connection: Connection, name: str, key: SigningKey, settings: Settings, now: datetime) -> Current:
    """Return the policy of a name, signed anew where a part of its life is over. One without a row is the default one.

    The transaction must be one that may write.
    """
    row = connection.execute(sa.select(policies).where(policies.c.name == name)).mappings().one_or_none()
    if row is not None and now < row["issued_at"] + (row["expires_at"] - row["issued_at"]) / RENEW_PART:
        return Current(row["hash"], SignedPolicy(row["body"], row["signature"]), bool(row["content"].get("events")))
    return put(connection, name, None, key, settings, now)


def put(
    connection: Connection,
    name: str,
    content: dict[str, Any] | None,
    key: SigningKey,
    settings: Settings,
    now: datetime,
) -> Current:
    """Sign a policy with this content (None: the one it has), and keep it.

    Args:
        connection: of a transaction that may write.
        name: of the policy.
        content: fields of `wire.policy.Policy` but serial and moments.
        key: the server's.
        settings: how long it is good for.
        now: when it begins.

    Raises:
        msgspec.ValidationError: the content is not one of a policy.
    """
    row = (
        connection.execute(sa.select(policies).where(policies.c.name == name).with_for_update())
        .mappings()
        .one_or_none()
    )
    if content is None:
        content = dict(row["content"]) if row is not None else {}
    given = content | {
        "serial": (row["serial"] if row is not None else 0) + 1,
        "issued_at": now,
        "expires_at": now + settings.policy_life,
    }
    signed = sign_policy(msgspec.convert(given, Policy), key)
    values = {
        "content": content,
        "serial": given["serial"],
        "hash": policy_hash(signed),
        "body": signed.body,
        "signature": signed.signature,
        "issued_at": now,
        "expires_at": given["expires_at"],
    }
    if row is None:
        connection.execute(sa.insert(policies).values(name=name, **values))
    else:
        connection.execute(sa.update(policies).where(policies.c.name == name).values(values))
    return Current(str(values["hash"]), signed, bool(content.get("events")))
