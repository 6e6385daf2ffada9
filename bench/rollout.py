"""A bad release and a halt, on PostgreSQL with two server processes: how many machines begin, and for how long.

Machines are simulated, what they say is signed and goes over HTTP, to either server by turns. Each begins what it is
told at a check-in and says a second later how it ended.
"""

from __future__ import annotations

import contextlib
import heapq
import queue
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import urllib3

from bench.report import Figure
from hotmend.fleet.client import Client
from hotmend.fleet.rollouts import Rollouts
from hotmend.server.database import open_database
from hotmend.server.identity.service import ensure_server_key
from hotmend.server.machines import policies
from hotmend.server.settings import Settings
from hotmend.servicing.actions import State
from hotmend.wire.api import RegistrationKey, SetupWanted, Token
from hotmend.wire.keys import PublicKey, SigningKey
from hotmend.wire.messages import (
    CHECK_IN_PATH,
    ENROL_PATH,
    Answer,
    CheckIn,
    Enrol,
    Reached,
    decode_answer,
    decode_enrolled,
    encode,
)
from hotmend.wire.rollouts import RingWanted, RolloutWanted, ThresholdsWanted
from hotmend.wire.signing import answer_verified, parse, request_headers
from tests.server.fleet import ALWAYS
from tests.server.machine import host, report
from tests.survey.cluster import postgresql

MACHINES = 400
CANARIES = 60
BUDGET = 20
INTERVAL_SECONDS = 10
GOAL_SECONDS = 60.0
_THREADS = 16
_WAVE = 100
_DONE_SECONDS = 1.0
_WAIT_SECONDS = 300.0
_WAY = (State.PRECHECK, State.PRE_EVENT, State.DOWNLOADING, State.VERIFYING, State.APPLYING, State.HEALTH_CHECK)
_BAD, _GOOD = "openssl=bad", "openssl=good"


@dataclass
class _Agent:
    """One simulated machine."""

    number: int
    pool: urllib3.PoolManager
    key: SigningKey = field(default_factory=SigningKey.generate)
    id: str = ""
    counter: int = 0
    saying: list[Reached] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    reported: bool = False
    turn: threading.Lock = field(default_factory=threading.Lock)

    def send(self, url: str, path: str, message: msgspec.Struct, name: str) -> urllib3.BaseHTTPResponse:
        self.counter += 1
        body = encode(message)
        now = int(time.time())
        headers = request_headers(self.key, name, "POST", path, body, created=now, counter=self.counter)
        return self.pool.request("POST", url + path, body=body, headers=headers, retries=False, timeout=60)

    def enrol(self, url: str, key: str) -> None:
        name = f"m{self.number}"
        answer = self.send(url, ENROL_PATH, Enrol(key, name, self.key.public, host(name)), self.key.public)
        assert answer.status == 200, answer.data
        self.id = decode_enrolled(answer.data).machine

    def check_in(self, url: str, server: PublicKey) -> Answer:
        said = None if self.reported else report(alerts=(), zone="UTC")
        message = CheckIn(host(f"m{self.number}"), "1", report=said, reached=tuple(self.saying))
        reply = self.send(url, CHECK_IN_PATH, message, self.id)
        assert reply.status == 200, reply.data
        signed = parse(reply.headers["Signature-Input"], reply.headers["Signature"])
        assert signed is not None
        assert answer_verified(signed, server, 200, reply.data)
        self.reported = True
        return decode_answer(reply.data)


@dataclass
class _Fleet:
    """All machines, in a thread of their own, and what was seen of them; moments are of one clock."""

    urls: list[str]
    server: PublicKey
    agents: list[_Agent]
    began: dict[str, list[float]] = field(default_factory=lambda: {_BAD: [], _GOOD: []})
    failed: list[float] = field(default_factory=list)
    told_halt: dict[str, float] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    soon: queue.SimpleQueue[tuple[float, _Agent]] = field(default_factory=queue.SimpleQueue)
    ending: threading.Event = field(default_factory=threading.Event)
    errors: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Have each machine check in once in the interval, spread over it, until `ending`."""
        chance = random.Random(1)
        begin = time.monotonic()
        due = [(begin + chance.random() * INTERVAL_SECONDS, agent.number, True) for agent in self.agents]
        heapq.heapify(due)
        with ThreadPoolExecutor(_THREADS) as threads:
            while not self.ending.wait(0.01):
                while not self.soon.empty():
                    moment, agent = self.soon.get()
                    heapq.heappush(due, (moment, agent.number, False))
                while due[0][0] <= time.monotonic():
                    moment, number, again = heapq.heappop(due)
                    threads.submit(self._turn, self.agents[number])
                    if again:
                        heapq.heappush(due, (moment + INTERVAL_SECONDS, number, True))

    def _turn(self, agent: _Agent) -> None:
        with agent.turn:
            self._check_in(agent)

    def _check_in(self, agent: _Agent) -> None:
        begin = time.monotonic()
        try:
            fails = any(each.state is State.FAILED for each in agent.saying)
            answer = agent.check_in(self.urls[agent.counter % len(self.urls)], self.server)
        except Exception as error:  # noqa: BLE001 - printed with the figures
            self.errors.append(repr(error))
            return
        end = time.monotonic()
        self.seconds.append(end - begin)
        if fails:
            self.failed.append(end)
        agent.saying = [each for each in agent.saying if each.action not in answer.confirmed]
        if answer.halted:
            self.told_halt.setdefault(agent.id, end)
        for order in answer.orders:
            if order.id in agent.known or (answer.halted and not order.emergency):
                continue
            agent.known.add(order.id)
            bad = _BAD in order.updates
            if not order.emergency:
                self.began[_BAD if bad else _GOOD].append(end)
            self.soon.put((end + _DONE_SECONDS, agent))
            last = State.FAILED if bad and not order.emergency else State.SUCCEEDED
            agent.saying += [Reached(order.id, state, answer.at) for state in (*_WAY, last)]


def rollout_measure(folder: Path) -> Iterator[Figure]:
    """Yield the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    with postgresql() as url, _servers(url, folder) as (urls, token), urllib3.PoolManager(_THREADS * 2) as pool:
        rollouts, fleet = _prepared(url, urls, token, pool)
        thread = threading.Thread(target=fleet.run)
        thread.start()
        try:
            yield from _bad_release(rollouts, fleet)
            yield from _halt(rollouts, fleet)
        finally:
            fleet.ending.set()
            thread.join()
        ordered = sorted(fleet.seconds)
        note = f"{len(ordered)} check-ins, {MACHINES} machines each {INTERVAL_SECONDS} s, client on this machine too"
        yield Figure("Rollout", "check-in meanwhile, p99", ordered[len(ordered) * 99 // 100] * 1000, "ms", note=note)
        yield Figure("Rollout", "check-ins that failed", len(fleet.errors), "", note=(fleet.errors or [""])[0][:100])


def _prepared(url: str, urls: list[str], token: str, pool: urllib3.PoolManager) -> tuple[Rollouts, _Fleet]:
    made = Client(urls[0]).post("/setup", SetupWanted(token, "root"), Token)
    client = Client(urls[0], made.secret)
    database, now = open_database(url), datetime.now(UTC)
    key = ensure_server_key(database, now)
    with database.write() as connection:
        policies.put(connection, policies.DEFAULT, {**ALWAYS, "zone": "UTC"}, key, Settings(url), now)
    database.close()
    agents = [_Agent(number, pool) for number in range(MACHINES)]
    wanted: dict[str, Any] = {"name": "canaries", "tags": {"canary": "1"}}
    canary = client.post("/registration-keys", wanted, RegistrationKey).secret
    other = client.post("/registration-keys", {"name": "others"}, RegistrationKey).secret
    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(lambda each: each.enrol(urls[0], canary if each.number < CANARIES else other), agents))
    return Rollouts(client), _Fleet(urls, PublicKey(key.public), agents)


def _begin(rollouts: Rollouts, update: str, budget: int) -> str:
    rings = [RingWanted("canary", tag="canary"), RingWanted("rest")]
    thresholds = ThresholdsWanted(soak_minutes=0)
    made = rollouts.create(RolloutWanted(update, [update], rings, budget=budget, thresholds=thresholds))
    rollouts.approve(made.id, made.plan)
    rollouts.act(made.id, "start")
    return made.id


def _until(rollouts: Rollouts, identity: str, *states: str) -> None:
    end = time.monotonic() + _WAIT_SECONDS
    while rollouts.get(identity).state not in states:
        if time.monotonic() > end:
            raise RuntimeError(f"rollout: never {states}: {rollouts.get(identity)}")
        time.sleep(0.2)


def _bad_release(rollouts: Rollouts, fleet: _Fleet) -> Iterator[Figure]:
    time.sleep(1.5 * INTERVAL_SECONDS)  # everybody has been there
    identity = _begin(rollouts, _BAD, BUDGET)
    _until(rollouts, identity, "PAUSED")
    time.sleep(2 * INTERVAL_SECONDS)
    began, first = list(fleet.began[_BAD]), min(fleet.failed)
    note = f"of {CANARIES} canaries and {MACHINES - CANARIES} others; every machine that takes it fails"
    yield Figure("Rollout", "blast radius: machines that began a bad release", len(began), "", BUDGET, "budget", note)
    after = [each - first for each in began if each > first]
    note = "from the answer to the first report of a failure to the last machine that begins; 0: none did"
    yield Figure("Rollout", "the last one begins after", max(after, default=0.0), "s", GOAL_SECONDS, "goal", note)
    yield Figure("Rollout", "machines that began after it", len(after), "")
    begin = time.monotonic()
    rollouts.act(identity, "roll-back", "bench")
    _until(rollouts, identity, "ROLLED_BACK")
    note = f"told at the next check-in: {INTERVAL_SECONDS} s between two"
    yield Figure("Rollout", "all of them reverted", time.monotonic() - begin, "s", note=note)


def _halt(rollouts: Rollouts, fleet: _Fleet) -> Iterator[Figure]:
    identity = _begin(rollouts, _GOOD, _WAVE)
    while len(fleet.began[_GOOD]) < CANARIES + _WAVE // 4:  # in the middle of a wave
        time.sleep(0.1)
    asked = time.monotonic()
    rollouts.halt("bench")
    halted = time.monotonic()
    time.sleep(2 * INTERVAL_SECONDS)
    yield Figure("Rollout", "halt: the command takes", (halted - asked) * 1000, "ms")
    after = [each - halted for each in fleet.began[_GOOD] if each > halted]
    note = "a check-in that was under way when the halt came still tells"
    yield Figure("Rollout", "the last machine begins after", max(after, default=0.0), "s", note=note)
    yield Figure("Rollout", "machines that began after the halt", len(after), "")
    told = max(fleet.told_halt.values()) - asked
    yield Figure("Rollout", f"all {len(fleet.told_halt)} machines know", told, "s", INTERVAL_SECONDS, "interval")
    rollouts.release("bench")
    _until(rollouts, identity, "FINISHED")
    note = f"{len(fleet.began[_GOOD])} machines began, {MACHINES} there are"
    yield Figure("Rollout", "machines that began the good release", len(fleet.began[_GOOD]), "", MACHINES, "all", note)


@contextlib.contextmanager
def _servers(url: str, folder: Path) -> Iterator[tuple[list[str], str]]:
    """Start two servers on one database, and give their URLs and the token of the first administrator."""
    processes, urls, token = [], [], ""
    try:
        for number in range(2):
            with socket.create_server(("127.0.0.1", 0)) as free:
                listen = f"127.0.0.1:{free.getsockname()[1]}"
            log = folder / f"server-{number}.log"
            command = [sys.executable, "-m", "hotmend", "server", "--database", url, "--listen", listen]
            with log.open("wb") as stream:
                more = ["--check-in-seconds", str(INTERVAL_SECONDS)]
                processes.append(subprocess.Popen([*command, *more], stdout=stream, stderr=stream))
            urls.append(f"http://{listen}")
            _ready(urls[-1], log)
            found = re.search(r"--token (\S+)", log.read_text())
            token = found[1] if found else token  # the last one that is printed is good
        yield urls, token
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def _ready(url: str, log: Path) -> None:
    end = time.monotonic() + _WAIT_SECONDS
    while True:
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            if urllib3.request("GET", f"{url}/healthz", retries=False).status == 200:
                return
        if time.monotonic() > end:
            raise RuntimeError(f"the server does not answer: {log.read_text()[-300:]}")
        time.sleep(0.1)
