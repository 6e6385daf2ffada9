"""What is done with machines: taken in, approved, offboarded. Each is one transaction, with its audit row."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.exc import IntegrityError

from hotmend.server.audit.store import append
from hotmend.server.context import Context
from hotmend.server.identity.access import Principal
from hotmend.server.identity.secrets import secret_hash
from hotmend.server.identity.service import check_tags
from hotmend.server.identity.store import use_key
from hotmend.server.machines import store
from hotmend.server.machines.contact import SUSPECT, set_state, suspect
from hotmend.server.machines.rules import Heard, Known, known
from hotmend.server.problem import Problem, conflict, not_found
from hotmend.server.rollouts import steering
from hotmend.servicing.actions import State
from hotmend.wire.keys import PublicKey
from hotmend.wire.messages import Enrol, Enrolled, Kind
from hotmend.wire.signing import Signed, handover

_WAITS: Final = {
    Known.CLONE: "another machine has the same /etc/machine-id; is it a clone?",
    Known.UNPROVEN: "a machine like it is known, and its key has not signed for this one; installed anew, or a clone?",
}
_TOLD: Final = {
    Known.CLONE: "{name} has the same /etc/machine-id",
    Known.UNPROVEN: "{name} says that it is this host, and has not its key",
}
_APPROVAL: Final = "its registration key asks for approval"


def enrol(context: Context, wanted: Enrol, counter: int) -> Enrolled:
    """Take a machine in.

    Args:
        context: the server.
        wanted: what it says, signed with its own key.
        counter: of the request: the machine counts on from there.

    Raises:
        Problem: the registration key is not good, or the machine's key is taken.
    """
    now = context.clock()
    try:
        with context.database.write() as connection:
            key = use_key(connection, secret_hash(wanted.key), now)
            if key is None:
                raise Problem(403, "registration-key", "the registration key is unknown, over, revoked or used up")
            proven = _proven(connection, wanted, now)
            found, other = known(wanted.host, store.hosts_of(connection, wanted.host.machine), proven)
            why = _WAITS.get(found) or (_APPROVAL if key["approval"] else "")
            if found is Known.SAME:
                identity, why = _again(connection, other, wanted, why)
            else:
                values: dict[str, Any] = {
                    "name": wanted.name,
                    "state": "pending" if why else "active",
                    "why": why,
                    "platform": wanted.platform,
                    "tier": key["tier"],
                    "public_key": wanted.public_key,
                    "host_machine": wanted.host.machine,
                    "host_hardware": wanted.host.hardware,
                    "registration_key_id": key["id"],
                    "registered_at": now,
                    "approved_at": None if why else now,
                }
                identity = store.insert_machine(connection, values, key["tags"])
            store.reset_contact(connection, identity, counter)
            store.add_event(connection, identity, now, "enrolled", f"as {wanted.name}, key {key['name']}")
            if found is Known.SAME:
                store.add_event(
                    connection,
                    identity,
                    now,
                    "key-changed",
                    "by the key before" if other == proven else "not heard before",
                )
            elif found in _TOLD:
                store.add_event(connection, other, now, "clone", _TOLD[found].format(name=wanted.name))
            detail = {"name": wanted.name, "key": key["name"], "host": found.value, "why": why}
            append(connection, now, f"machine {wanted.name}", "machine.enrol", identity, detail)
    except IntegrityError:
        raise conflict("key-taken", "a machine is registered with this key already") from None
    return Enrolled(identity, not why, context.key.public, why)


def _proven(connection: Connection, wanted: Enrol, now: datetime) -> str:
    """Return the id of the machine whose key has signed for the new one; "": of none.

    A key that signs with a counter that was used is on two hosts: both were the machine once, and nobody knows which
    is.
    """
    former = wanted.former
    row = store.contact(connection, former.machine) if former is not None else None
    if former is None or row is None or row["public_key"] is None:
        return ""
    said = handover(former.machine, former.counter, wanted.public_key)
    if not PublicKey(row["public_key"]).verifies(bytes.fromhex(former.signature), said):
        return ""
    if former.counter > row["counter"]:
        return former.machine
    if row["state"] == "active":
        suspect(connection, former.machine, SUSPECT[Heard.TWO_HOSTS], now)
    return ""


def _again(connection: Connection, identity: str, wanted: Enrol, why: str) -> tuple[str, str]:
    """Give a host that is known its new key; one that is suspect, or comes with `why`, waits for somebody."""
    row = _row(connection, identity)
    if row["state"] != "active":
        why = row["why"] or why or "it waits for approval"
    values = {
        "name": wanted.name,
        "public_key": wanted.public_key,
        "state": "pending" if why else "active",
        "why": why,
    }
    store.update_machine(connection, identity, values)
    return identity, why


def machine_key(context: Context, identity: str) -> PublicKey:
    """Return a machine's key.

    Raises:
        Problem: there is no such machine, or it has left.
    """
    with context.database.read() as connection:
        row = store.machine(connection, identity)
    if row is None or row["public_key"] is None:
        raise Problem(401, "not-this-machine", "not signed by a machine of this server")
    return PublicKey(row["public_key"])


def leave(context: Context, signed: Signed) -> None:
    """Let a machine go that has said so itself."""
    _gone(context, signed.key, f"machine {signed.key}", None)


def offboard(context: Context, caller: Principal, identity: str, version: int | None) -> None:
    """Let a machine go: its key is worth nothing any more, and what was planned for it is canceled.

    Raises:
        Problem: there is none, or it is not the version that the caller saw.
    """
    _gone(context, identity, caller.name, version)


def _gone(context: Context, identity: str, actor: str, version: int | None) -> None:
    now = context.clock()
    with context.database.write() as connection:
        row = _row(connection, identity, version)
        if row["state"] == "left":
            raise conflict("left", "it has left already")
        for action in store.open_actions(connection, identity):
            _end(connection, context, action, now)
        values = {"state": "left", "why": "", "public_key": None, "left_at": now}
        store.update_machine(connection, identity, values)
        store.add_event(connection, identity, now, "left", f"by {actor}")
        append(connection, now, actor, "machine.leave", identity, {"name": row["name"]})


def _end(connection: Connection, context: Context, action: RowMapping, now: datetime) -> None:
    """End an action of a machine that leaves.

    An installation that it was told of may have changed it, and may be why it leaves: nobody will hear what came of it.
    """
    if action["handed_at"] is None or action["kind"] != Kind.INSTALL:
        set_state(connection, action["id"], State.CANCELED, "the machine has left", now)
        return
    set_state(connection, action["id"], State.TIMED_OUT, "the machine has left, and has not said what came of it", now)
    if action["rollout_id"] is not None:
        steering.has_left(connection, context, action["rollout_id"])


def approve(context: Context, caller: Principal, identity: str, version: int | None) -> None:
    """Let a machine take part that waits, or that was suspect.

    Raises:
        Problem: there is none, it does not wait, or it is not the version that the caller saw.
    """
    now = context.clock()
    with context.database.write() as connection:
        row = _row(connection, identity, version)
        if row["state"] not in ("pending", "suspect"):
            raise conflict("not-waiting", f"it is {row['state']}: nothing waits for approval")
        store.update_machine(connection, identity, {"state": "active", "why": "", "approved_at": now})
        store.add_event(connection, identity, now, "approved", f"by {caller.name}; it was {row['state']}")
        detail = {"name": row["name"], "was": row["state"], "why": row["why"]}
        append(connection, now, caller.name, "machine.approve", identity, detail)


def put_tags(context: Context, caller: Principal, identity: str, tags: dict[str, str], version: int | None) -> None:
    """Give a machine these tags and no other.

    Raises:
        Problem: they are none, there is no such machine, or it is not the version that the caller saw.
    """
    check_tags(tags)
    with context.database.write() as connection:
        row = _row(connection, identity, version)
        store.put_tags(connection, identity, tags)
        store.update_machine(connection, identity, {"state": row["state"]})
        append(connection, context.clock(), caller.name, "machine.tags", identity, {"tags": tags})


def _row(connection: Connection, identity: str, version: int | None = None) -> RowMapping:
    row = store.machine(connection, identity, lock=True)
    if row is None:
        raise not_found("machine")
    if version is not None and row["version"] != version:
        raise Problem(412, "changed", "somebody has changed it meanwhile", "read it again")
    return row
