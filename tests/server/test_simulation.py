"""Two hundred machines on the real wire, one seed, one clock: good and bad releases, late machines, a halt."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3

from hotmend.server.rollouts import steering
from hotmend.servicing.actions import State
from hotmend.servicing.rollouts import State as RolloutState
from hotmend.wire.messages import Kind, Order, Reached
from tests.server.machine import Simple, host, registration_key, report
from tests.server.running import Running, running

SECONDS = 300
"""Between two check-ins."""
_THREADS = 32
BAD = "openssl=3.0.18-bad"
GOOD = "openssl=3.0.18-good"
_WAY = (State.PRECHECK, State.PRE_EVENT, State.DOWNLOADING, State.VERIFYING, State.APPLYING, State.HEALTH_CHECK)


@dataclass
class Agent:
    """A machine that takes orders: begins at one check-in, and says at the next how it ended."""

    simple: Simple
    random: random.Random
    on: bool = True
    began: list[tuple[int, str, str]] = field(default_factory=list)
    saying: list[Reached] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    held: bool = False
    reported: bool = False
    good: set[str] = field(default_factory=set)
    failed_in: int = 0

    def turn(self, number: int) -> None:
        if not self.on:
            return
        said: dict[str, Any] = {} if self.reported else {"report": report(alerts=())}
        answer = self.simple.check_in(reached=tuple(self.saying), **said)
        if any(each.state is State.FAILED for each in self.saying):
            self.failed_in = self.failed_in or number
        self.reported = True
        self.saying = [each for each in self.saying if each.action not in answer.confirmed]
        self.held = bool(answer.halted)
        for order in answer.orders:
            if order.id not in self.known and (not answer.halted or order.emergency):
                self.known.add(order.id)
                self._begin(number, order, answer.at)

    def _begin(self, number: int, order: Order, at: Any) -> None:
        self.began.append((number, order.kind.value, order.id))
        fails = order.kind is Kind.INSTALL and BAD in order.updates and self.random.random() < 0.5
        end = State.FAILED if fails else State.SUCCEEDED
        if not fails:
            self.good.add(order.id)
        self.saying += [Reached(order.id, state, at) for state in (*_WAY, end)]


@dataclass
class World:
    """A server, its machines, and the time."""

    server: Running
    random: random.Random
    agents: list[Agent] = field(default_factory=list)
    number: int = 0

    def add(self, count: int, **tags: str) -> list[Agent]:
        key = registration_key(self.server, tags=tags)
        made = []
        for _ in range(count):
            name = f"m{len(self.agents):03}"
            simple = Simple(self.server, name, host(name))
            simple.enrol(key)
            made.append(Agent(simple, random.Random(name)))
            self.agents.append(made[-1])
        return made

    def turn(self, rollout: str) -> RolloutState:
        """Let five minutes pass: machines come in any order, and the rollout is steered meanwhile."""
        self.number += 1
        order = self.random.sample(self.agents, len(self.agents))  # in which half of the time each comes
        half = len(order) // 2
        for some in (order[:half], order[half:]):
            self.server.clock.ahead += timedelta(seconds=SECONDS / 2)
            self.all_turn(some)
            for _ in range(2):
                state = steering.step(self.server.app.state.context, rollout).state
        return state

    def all_turn(self, some: list[Agent]) -> None:
        """Have machines check in side by side: what each does follows from its own seed, not from their order."""
        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(lambda agent: agent.turn(self.number), some))

    def begin(self, update: str, **fields: Any) -> str:
        wanted: dict[str, Any] = {
            "name": update,
            "updates": [update],
            "lane": "zero-day",
            "rings": [{"name": "canary", "tag": "canary"}, {"name": "early", "percent": 20}, {"name": "rest"}],
            "budget": 40,
            "thresholds": {"soak_minutes": 10, "silence_minutes": 20},
        }
        made = self.server.post("/api/v1/rollouts", wanted | fields, role="operator")
        path = f"/api/v1/rollouts/{made['id']}"
        for role in ("approver", "admin"):
            self.server.post(f"{path}/approve", {"plan": made["plan"]}, role=role, status=200)
        self.server.post(f"{path}/start", role="operator", status=200)
        return str(made["id"])

    def begun(self, kind: str = "install") -> list[tuple[int, Agent, str]]:
        return [(number, agent, action) for agent in self.agents for number, its, action in agent.began if its == kind]


@pytest.fixture
def world(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    chance = random.Random(8)
    ids = SimpleNamespace(token_hex=lambda count: chance.randbytes(count).hex())
    monkeypatch.setattr("hotmend.server.database.secrets", ids)  # the order in a ring follows from ids
    with running(
        sqlite_url, check_in_seconds=SECONDS, requests_per_minute=100_000, check_ins_per_minute=100_000
    ) as server:
        server.set_up()
        server.pool = urllib3.PoolManager(maxsize=_THREADS)
        yield World(server, random.Random(8))


def test_two_hundred_machines(world: World) -> None:
    canaries = world.add(10, canary="1")
    pairs = [world.add(2, pair=f"p{number}") for number in range(10)]
    web = world.add(50, set="web")
    world.add(120)
    off = world.random.sample(world.agents[30:], 15)
    world.all_turn(world.agents)
    for agent in off:
        agent.on = False

    # A bad release: the canary stops it, and no other machine ever begins.
    identity = world.begin(BAD, budget=5)
    states = [world.turn(identity) for _ in range(8)]
    assert states[-1] == "PAUSED"
    began = world.begun()
    assert {agent.simple.name for _, agent, _ in began} <= {agent.simple.name for agent in canaries}
    # What was not well when the first failure was reported: never more than the budget. Nothing begins after it.
    failed = [agent for _, agent, _ in began if agent.failed_in]
    assert failed
    assert len([agent for _, agent, action in began if action not in agent.good]) <= 5
    assert max(number for number, _, _ in began) <= min(agent.failed_in for agent in failed)
    path = f"/api/v1/rollouts/{identity}"
    assert world.server.get(path)["why"]["code"] == "errors-over-threshold"
    world.server.post(f"{path}/roll-back", {"reason": "bad"}, role="operator", status=200)
    assert [world.turn(identity) for _ in range(4)][-1] == "ROLLED_BACK"
    reverted = [agent.simple.name for _, agent, _ in world.begun("revert")]
    assert sorted(reverted) == sorted(agent.simple.name for _, agent, _ in began)
    for agent in world.agents:
        agent.began.clear()

    # A good one: some are off and come back, some come late, and everything is halted in the middle.
    identity = world.begin(GOOD)
    path = f"/api/v1/rollouts/{identity}"
    halted: range | None = None
    late: list[Agent] = []
    busy: list[tuple[int, set[str], int]] = []
    while (state := world.turn(identity)) != "FINISHED":
        assert state == "RUNNING", world.server.get(path)
        assert world.number < 60
        members = world.server.get(f"{path}/machines?limit=1000")["items"]
        under_way = {each["machine"] for each in members if each["begun_at"] and each["state"] not in ("SUCCEEDED",)}
        busy.append((world.number, under_way, len(members)))
        done = len(world.begun())
        if done > 60 and halted is None:
            world.server.post("/api/v1/halt", {"reason": "look"}, role="operator", status=200)
            halted = range(world.number + 1, world.number + 4)
            late = world.add(10)
            for agent in off[:10]:
                agent.on = True
        elif halted is not None and world.number == halted[-1]:
            assert all(agent.held for agent in world.agents if agent.on)
            world.server.post("/api/v1/release", {"reason": "fine"}, role="operator", status=200)
    began = world.begun()
    assert halted is not None
    assert [number for number, _, _ in began if number in halted] == []
    assert {agent.simple.name for _, agent, _ in began} == {agent.simple.name for agent in world.agents if agent.on}
    assert len(began) == len(world.agents) - 5  # each once
    assert {agent.simple.name for agent in late} <= {agent.simple.name for _, agent, _ in began}
    ids = [{agent.simple.id for agent in pair} for pair in pairs]
    in_set = {agent.simple.id for agent in web}
    for number, under_way, _ in busy:
        assert len(under_way) <= 40, number
        assert all(len(under_way & pair) <= 1 for pair in ids)
        assert len(under_way & in_set) <= 10
    first = {agent.simple.name: number for number, agent, _ in began}
    others = [number for name, number in first.items() if name not in {agent.simple.name for agent in canaries}]
    assert max(first[agent.simple.name] for agent in canaries) + 2 <= min(others)  # the soak lies between
    assert world.server.get("/api/v1/audit/verify")["whole"]
