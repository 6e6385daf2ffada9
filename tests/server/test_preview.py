"""What a rollout would do is worked out for crowds of machines: it is what the rules say of each machine by itself."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from hotmend.server.database import new_id
from hotmend.server.identity.access import Principal
from hotmend.server.machines import store
from hotmend.server.machines.policies import HOTPATCH_OFF
from hotmend.server.machines.tables import actions, machines, policies, reports, tags
from hotmend.server.maintenance.events import allowed
from hotmend.server.problem import Problem
from hotmend.server.rollouts import candidates, service
from hotmend.server.rollouts.preview import Preview, RingPreview, planned, preview
from hotmend.server.rollouts.spec import Spec, plan_digest, spec_of
from hotmend.server.rollouts.windows import Windows
from hotmend.servicing import rings
from hotmend.servicing.lanes import RULES, Lane
from hotmend.servicing.starting import share, startable
from tests.server.fleet import ALWAYS, Fleet, started, wanted
from tests.server.running import Running

RINGS = [
    {"name": "canary", "tag": "canary"},
    {"name": "south", "domain": "south"},
    {"name": "early", "tier": "canary"},
    {"name": "tenth", "percent": 10},
    {"name": "old", "tag": "site=2"},
    {"name": "rest"},
]


def _slow(fleet: Fleet, seed: str, lane: Lane, spec: Spec) -> Preview:
    """Ask the rules about each machine by itself."""
    now = fleet.now()
    seen_after = now - 3 * timedelta(seconds=fleet.context.settings.check_in_seconds)
    with fleet.database.read() as connection:
        members = _members(connection, spec)
        by_id = {member.id: member for member in members}
        found = store.listing().where(machines.c.id.in_(list(by_id)))
        rows = {row["id"]: row for row in connection.execute(found).mappings()}
        there = {each for each, row in rows.items() if row["seen_at"] is not None and row["seen_at"] >= seen_after}
        minutes = timedelta(minutes=spec.minutes)
        windows = Windows(candidates.policy_contents(connection), now, minutes, allowed(connection, now))
        busy = candidates.busy(connection, now)
        active = sa.select(machines.c.id).where(machines.c.state == "active")
        sizes = Counter(
            connection.scalars(sa.select(tags.c.value).where(tags.c.name == "set", tags.c.machine_id.in_(active)))
        )
    plan = rings.plan(members, spec.rings, seed)
    shown = []
    for ring, ids in zip(spec.rings, plan.rings, strict=bool(plan.rings)):
        held, first = Counter[str](), []
        for each in ids:
            decision = windows.ask(rows[each]["policy"], rows[each]["zone"] or "")
            if each in there and RULES[lane].windows and not decision.allowed:
                held[decision.cause.code] += 1
            elif each in there:
                first.append(by_id[each])
        start = startable(first, busy, sizes, 0, spec.limits)
        held.update(why.code for why in start.held.values())
        sets = Counter(by_id[each].set for each in ids if by_id[each].set)
        pairs = Counter(by_id[each].pair for each in ids if by_id[each].pair)
        needed = [-(-len(ids) // spec.budget), *pairs.values()]
        needed += [-(-count // share(sizes[each], spec.limits)) for each, count in sets.items()]
        begins = tuple(member.id for member in start.members[:100])
        shown.append(RingPreview(ring.name, len(ids), len(set(ids) - there), max(needed), dict(held), begins))
    digest = plan_digest(spec, lane, plan.rings)
    causes = tuple(each.code for each in plan.causes)
    return Preview(digest, seed, causes, len(members), tuple(shown), 0.0, RULES[lane].approvals)  # type: ignore[arg-type]


def _members(connection: sa.Connection, spec: Spec) -> list[rings.Member]:
    """Return the machines that are meant, by their tags as they are, not by what is kept of them elsewhere."""
    query = sa.select(machines.c.id, machines.c.tier)
    query = query.where(machines.c.state == "active", machines.c.policy != HOTPATCH_OFF)
    for name, value in spec.selection.tags.items():
        query = query.where(
            machines.c.id.in_(sa.select(tags.c.machine_id).where(tags.c.name == name, tags.c.value == value))
        )
    found = []
    for identity, tier in connection.execute(query).all():
        its = store.tags_of(connection, [identity])[identity]
        names = frozenset(its) | {f"{name}={value}" for name, value in its.items()}
        domain, together, pair = (its.get(each, "") for each in ("domain", "set", "pair"))
        found.append(rings.Member(identity, names, domain, together, pair, tier))
    return found


def _fill(fleet: Fleet, chance: random.Random) -> None:
    """Add machines of all kinds, some of them being changed."""
    for number in range(70):
        its: dict[str, str] = {"site": chance.choice("123")}
        its |= {"canary": "1"} if chance.random() < 0.1 else {}
        its |= {"domain": chance.choice(["north", "south"])} if chance.random() < 0.3 else {}
        its |= {"set": chance.choice(["web", "db", "zürich"])} if chance.random() < 0.6 else {}
        its |= {"pair": f"pair-{number // 8}"} if chance.random() < 0.4 else {}
        zone = chance.choice(["UTC", "Pacific/Auckland", "", "Mars/Phobos"])
        fleet.add(1, there=chance.random() < 0.8, zone=zone, **its)
    now = fleet.now()
    signed = {"serial": 1, "hash": "", "body": b"", "signature": b"", "issued_at": now, "expires_at": now}
    with fleet.database.write() as connection:
        connection.execute(sa.insert(policies).values(name="always", content={**ALWAYS, "zone": "UTC"}, **signed))
        for each in fleet.ids:
            policy = chance.choice(["default", "always", "always", HOTPATCH_OFF])
            state = chance.choice(["active"] * 6 + ["pending", "left"])
            values = {"policy": policy, "state": state, "tier": chance.choice(["canary", *["stable"] * 3])}
            connection.execute(sa.update(machines).where(machines.c.id == each).values(values))
        for each in chance.sample(fleet.ids, 6):
            kind = chance.choice(["install", "assess"])
            action: dict[str, Any] = {"id": each, "machine_id": each, "kind": kind, "updates": []}
            action |= {"created_by": "x", "created_at": now, "due_at": now, "changed_at": now}
            connection.execute(sa.insert(actions).values(action))


def _asked(chance: random.Random) -> list[Spec]:
    made = []
    for selection in ({}, {"tags": {"site": "2"}}, {"tags": {"site": "9"}}):
        for chosen in (RINGS, [RINGS[3], RINGS[5]], [RINGS[2], RINGS[5]], [RINGS[5], RINGS[0]]):
            budget, percent = chance.choice([1, 3, 8, 200]), chance.choice([1, 20, 100])
            given: dict[str, Any] = {"updates": ["a=1"], "rings": chosen, "selection": selection}
            made.append(spec_of(given | {"budget": budget, "share_percent": percent}))
    return made


@pytest.mark.parametrize("seed", range(3))
def test_a_preview_is_what_the_rules_say_of_each_machine(either_server: Running, seed: int) -> None:
    chance = random.Random(seed)
    either_server.clock.hold()  # both ways are asked of the same moment, at which the same machines are there
    fleet = Fleet(either_server)
    _fill(fleet, chance)
    fleet.server.clock.ahead = timedelta(minutes=1)
    seen = Counter[str]()
    for number, spec in enumerate(_asked(chance)):
        for lane in (Lane.NORMAL, Lane.ZERO_DAY):
            found = preview(fleet.context, lane, spec, f"x{number}-{lane}" if number % 2 else "")
            slow = _slow(fleet, found.seed, lane, spec)
            assert tuple(each["code"] for each in found.causes) == slow.causes
            assert (found.plan, found.machines, found.rings) == (slow.plan, slow.machines, slow.rings)
            if (number + seed) % 3 == 0:
                _check_made(fleet, lane, spec, found)
            for ring in found.rings:
                seen.update(ring.held_now)
                seen["first"] += len(ring.first)
                seen["off"] += ring.off
    assert {"budget-used", "share-used", "first", "off"} <= seen.keys()


def _check_made(fleet: Fleet, lane: Lane, spec: Spec, found: Preview) -> None:
    """Make what was previewed: it is the same plan, and shown to its approver as it was."""
    caller = Principal(new_id(), "op", "operator")
    shown = service.Shown(found.seed, found.plan)

    def make(shown: service.Shown) -> str:
        with fleet.database.write() as connection:
            return service.create(connection, fleet.now(), caller, "october", lane, spec, shown)

    if found.causes:
        with pytest.raises(Problem) as refused:
            make(shown)
        assert refused.value.code == found.causes[0]["code"]
        return
    if found.machines > 5:  # another seed, other machines: that is not the plan which was shown
        with pytest.raises(Problem, match="another one by now"):
            make(service.Shown("", found.plan))
    identity = make(shown)
    with pytest.raises(Problem, match="drawn a rollout already"):
        make(shown)
    again = planned(fleet.context, identity)
    assert (again.plan, again.seed, again.machines) == (found.plan, found.seed, found.machines)
    assert again.rings == found.rings


def test_who_is_previewed_to_begin_is_who_begins(either_server: Running) -> None:
    fleet = Fleet(either_server)
    fleet.add(3, canary="1", set="web")
    fleet.add(2, canary="1", pair="p")
    fleet.add(2, there=False, canary="1")
    fleet.add(9, set="web")
    asked = wanted(budget=5)
    before = fleet.server.post("/api/v1/rollouts/preview", asked, role="viewer", status=200)
    drawn = {"seed": before["seed"], "plan": before["plan"]}
    refused = fleet.server.call("POST", "/api/v1/rollouts", {**asked, **drawn, "seed": "another"}, role="operator")
    assert (refused.status, refused.json()["code"]) == (412, "forecast-first")
    made = fleet.server.post("/api/v1/rollouts", {**asked, **drawn}, role="operator")
    assert fleet.server.get(f"/api/v1/rollouts/{made['id']}/preview", role="viewer") == before
    shown = before["rings"][0]
    identity = started(fleet.server, made)
    assert fleet.server.call("GET", f"/api/v1/rollouts/{identity}/preview").status == 409  # it has begun
    fleet.step(identity, 3)
    begins = fleet.due().keys()
    assert sorted(begins) == sorted(shown["first"])
    assert len(begins) == 3
    rows = fleet.server.get(f"/api/v1/rollouts/{identity}/machines?group=0")["items"]
    held = Counter(row["held"] for row in rows if row["held"])
    assert held == shown["held_now"] == {"share-used": 1}  # the other of the pair is in the next ring


def test_what_makes_machines_alike_follows_each_change(either_server: Running) -> None:
    fleet = Fleet(either_server)
    (one,) = fleet.add(1, site="1", set="ü")

    def kept() -> tuple[str, str]:
        with fleet.database.read() as connection:
            row = connection.execute(sa.select(machines.c.labels, machines.c.clock)).one()
            its = store.tags_of(connection, [one])[one]
            zone = connection.scalar(sa.select(reports.c.zone))
        assert (store.tags_from(row.labels), row.clock) == (its, zone)
        return row.labels, row.clock

    assert kept() == ('{"set":"ü","site":"1"}', "UTC")
    path = f"/api/v1/machines/{one}/tags"
    assert fleet.server.call("PUT", path, {"tags": {"b": "2", "a": "1"}}).status == 200
    assert kept()[0] == '{"a":"1","b":"2"}'
    assert fleet.server.call("PUT", path, {"tags": {}}).status == 200
    assert kept()[0] == "{}"
