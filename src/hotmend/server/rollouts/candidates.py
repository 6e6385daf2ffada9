"""Machines as the planner sees them: which a selection means, and what else they take part in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotmend.server.machines import query as machine_query
from hotmend.server.machines.policies import HOTPATCH_OFF
from hotmend.server.machines.store import tags_from
from hotmend.server.machines.tables import IS_BAD, IS_OPEN, actions, contacts, machines, policies, tags
from hotmend.server.maintenance.store import scope
from hotmend.server.rollouts.spec import Selection
from hotmend.server.rollouts.tables import members, rollouts
from hotmend.servicing.rings import Alike, Member, Placed
from hotmend.servicing.rollouts import FINAL as ROLLOUT_FINAL

_PAGE: Final = 500
_TAGS: Final = ("domain", "set", "pair")
"""Tags with a meaning: fault domain, set that is to stay available, and pair."""
_LIKE: Final = (machines.c.policy, machines.c.clock, machines.c.tier, machines.c.labels)
_CLOCKS_APART: Final = timedelta(minutes=5)
"""What is due so soon counts as begun: servers' clocks differ, and a step may have waited for its turn."""


def _selected(connection: Connection, selection: Selection) -> sa.Select[tuple[str]]:
    has_agent = machines.c.public_key.is_not(None)  # facts that were uploaded are no machine that can be told
    query = sa.select(machines.c.id).where(machines.c.state == "active", machines.c.policy != HOTPATCH_OFF, has_agent)
    if selection.machines:
        query = query.where(machines.c.id.in_(selection.machines))
    for name, value in selection.tags.items():
        has = (tags.c.machine_id == machines.c.id) & (tags.c.name == name)
        query = query.where(sa.exists().where(has & (tags.c.value == value) if value else has))
    if selection.scope:
        asked = scope(connection, selection.scope)  # one that is gone has nobody
        query = query.where(sa.false() if asked is None else machines.c.id.in_(machine_query.ids(asked)))
    return query


def selected(connection: Connection, selection: Selection, *, not_in: str = "") -> list[Member]:
    """Return the machines of a selection; with `not_in` those alone that are not in that rollout."""
    query = _selected(connection, selection)
    if not_in:
        has = (members.c.rollout_id == not_in) & (members.c.machine_id == machines.c.id)
        query = query.where(~sa.exists().where(has))
    return _members(connection.execute(query.add_columns(machines.c.tier, machines.c.labels)))


def members_of(connection: Connection, ids: Sequence[str]) -> list[Member]:
    """Return machines with the tags that the rules look at, in the order given."""
    found: dict[str, Member] = {}
    for start in range(0, len(ids), _PAGE):
        which = machines.c.id.in_(ids[start : start + _PAGE])
        rows = connection.execute(sa.select(machines.c.id, machines.c.tier, machines.c.labels).where(which))
        found |= {member.id: member for member in _members(rows)}
    return [found[each] for each in ids if each in found]


def _members(rows: Iterable[Any]) -> list[Member]:
    alike: dict[tuple[str, str], Member] = {}
    found = []
    for machine, tier, labels in rows:
        like = alike.get((tier, labels))
        if like is None:
            like = alike[tier, labels] = _like(tags_from(labels), tier)
        found.append(Member(machine, like.tags, like.domain, like.set, like.pair, tier))
    return found


def _like(its: Mapping[str, str], tier: str) -> Member:
    """Return a machine without an id that has these tags and this tier."""
    names = frozenset(its) | {f"{name}={value}" for name, value in its.items()}
    domain, together, pair = (its.get(name, "") for name in _TAGS)
    return Member("", names, domain, together, pair, tier)


@dataclass(frozen=True, slots=True)
class Crowd:
    """Machines of which the rules and the clock say the same.

    Attributes:
        alike: one of them as the rules see it, and the ids of all.
        policy, zone: what their windows rest on.
        there: whether they were heard of lately.
    """

    alike: Alike
    policy: str
    zone: str
    there: bool


def crowds(connection: Connection, selection: Selection, asked: Iterable[str], seen_after: datetime) -> list[Crowd]:
    """Return the machines of a selection, put together where nothing tells them apart.

    Ids come as one text for each crowd: a row for each of a hundred thousand machines would cost more than the rules.

    Args:
        connection: of the database.
        selection: which.
        asked: names of the tags that matter beside those with a meaning.
        seen_after: who was heard of since is there.
    """
    ids = sa.func.aggregate_strings(machines.c.id, ",")
    meant = _selected(connection, selection).with_only_columns(*_LIKE, ids).group_by(*_LIKE)
    away = _silent(connection, seen_after)
    names = {*asked, *_TAGS}
    found: dict[tuple[Any, ...], list[str]] = {}
    for policy, zone, tier, labels, same in connection.execute(meant):
        its = tuple(each for each in tags_from(labels).items() if each[0] in names)
        found.setdefault((its, policy, zone, tier), []).extend(_parted(same))
    made = []
    for (its, policy, zone, tier), same in found.items():
        off = away.intersection(same) if away else away
        like = _like(dict(its), tier)
        here = [each for each in same if each not in off] if off else same
        made += [
            Crowd(Alike(like, each), policy, zone, there)
            for each, there in ((here, True), (sorted(off), False))
            if each
        ]
    return made


def planned(connection: Connection, rollout: str, rings: int, seen_after: datetime) -> tuple[list[Crowd], Placed]:
    """Return the machines that a rollout has, put together as `crowds` does, and where its plan has each.

    One that does not take part any more is as one that is away.

    Args:
        connection: of the database.
        rollout: which.
        rings: how many it has.
        seen_after: who was heard of since is there.
    """
    its = sa.func.aggregate_strings(sa.cast(members.c.place, sa.String) + ":" + machines.c.id, ",")
    keys = (*_LIKE, machines.c.state, members.c.number)
    query = sa.select(*keys, its).join(members, members.c.machine_id == machines.c.id)
    query = query.where(members.c.rollout_id == rollout).group_by(*keys)
    away = _silent(connection, seen_after)
    alike: dict[tuple[str, str, str, str, bool], tuple[int, list[str]]] = {}
    every: list[tuple[int, int, int, str]] = []
    for policy, zone, tier, labels, state, number, same in connection.execute(query):
        takes_part = state == "active" and policy != HOTPATCH_OFF
        for each in _parted(same):
            place, _, identity = each.partition(":")
            key = (labels, policy, zone, tier, takes_part and identity not in away)
            kind, ids = alike.setdefault(key, (len(alike), []))
            ids.append(identity)
            every.append((number, int(place), kind, identity))
    every.sort()
    placed: list[list[int]] = [[] for _ in range(rings)]
    for index, (number, *_) in enumerate(every):
        placed[number].append(index)
    crowds = [
        Crowd(Alike(_like(tags_from(labels), tier), ids), policy, zone, there)
        for (labels, policy, zone, tier, there), (_, ids) in alike.items()
    ]
    return crowds, Placed([each[3] for each in every], [each[2] for each in every], placed)


def _silent(connection: Connection, seen_after: datetime) -> set[str]:
    """Return the machines that were not heard of since."""
    silent = sa.or_(contacts.c.seen_at < seen_after, contacts.c.seen_at.is_(None))
    found = connection.scalar(sa.select(sa.func.aggregate_strings(contacts.c.machine_id, ",")).where(silent))
    return set(_parted(found))


def _parted(ids: str | None) -> list[str]:
    return ids.split(",") if ids else []


def set_sizes(connection: Connection) -> dict[str, int]:
    """Return how many machines each set has."""
    every = sa.select(tags.c.value, sa.func.count()).where(tags.c.name == "set").group_by(tags.c.value)
    found = Counter({row[0]: row[1] for row in connection.execute(every)})
    # All, less those few that do not take part: the index of tags answers the first, no machine is joined for it.
    away = every.join(machines, machines.c.id == tags.c.machine_id).where(machines.c.state != "active")
    found.subtract({row[0]: row[1] for row in connection.execute(away)})
    return {name: number for name, number in found.items() if number}


def busy(connection: Connection, now: datetime) -> list[Member]:
    """Return machines that are being changed, and those where something went wrong in a rollout that is not over.

    `now` may be some time ago, from before a lock was waited for: what was begun meanwhile is due after it.
    """
    due = (actions.c.due_at <= now + _CLOCKS_APART) & (
        actions.c.until.is_(None) | (actions.c.until > now) | actions.c.handed_at.is_not(None)
    )
    # Two questions, as each has an index of its own: of open actions, and of those that ended badly.
    changed = sa.select(actions.c.machine_id).where(IS_OPEN, due, actions.c.kind != "assess")
    unended = sa.select(rollouts.c.id).where(rollouts.c.state.not_in([state.value for state in ROLLOUT_FINAL]))
    failed = sa.select(actions.c.machine_id).where(IS_BAD, actions.c.rollout_id.in_(unended))
    which = machines.c.id.in_(changed.union(failed))
    return _members(connection.execute(sa.select(machines.c.id, machines.c.tier, machines.c.labels).where(which)))


def policy_contents(connection: Connection) -> dict[str, Any]:
    """Return the content of each policy by name."""
    return {row.name: row.content for row in connection.execute(sa.select(policies.c.name, policies.c.content))}
