"""`python -m bench.checkin_load HOST:PORT,.. MACHINES SECONDS CONNECTIONS [RATE]`: machines that check in.

They come as fast as they are answered, or at a steady rate: then the time of an answer counts from the moment at which
its check-in was to come, also where no connection was free. The connections are spread over the servers. Each request
is signed by its machine's own key and has a real body. One check-in of a hundred has a report that has changed and
sends it, as agents do, when it is asked for it; whoever is handed an action says its next state.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

from hotmend.servicing.actions import State
from hotmend.wire.keys import SigningKey
from hotmend.wire.messages import CHECK_IN_PATH, Answer, CheckIn, Host, Reached, decode_answer, encode
from hotmend.wire.report import Finding, Fixed, Prerequisite, Report, report_hash
from hotmend.wire.signing import request_headers

CHANGED_PART: Final = 100
_STEPS: Final = (
    State.PRECHECK,
    State.PRE_EVENT,
    State.DOWNLOADING,
    State.VERIFYING,
    State.APPLYING,
    State.HEALTH_CHECK,
    State.POST_EVENT,
)
REPORT: Final = Report(
    release="Debian GNU/Linux 12 (bookworm)",
    kernel="6.1.0-41-amd64",
    architecture="x86_64",
    zone="Europe/Berlin",
    agent="1.0",
    mode="automatic",
    level="2026-11.1",
    enrollment="ENABLED",
    prerequisites=tuple(Prerequisite(f"check-{number}", True, "as it should be") for number in range(14)),
    findings=tuple(
        Finding(
            f"CVE-2026-{1000 + number}",
            Fixed.IN_MEMORY if number % 3 else Fixed.EVERYWHERE,
            900 + number,
            "nginx",
            "nginx.service",
            "/usr/lib/x86_64-linux-gnu/libssl.so.3",
            "libssl3=3.0.17-1~deb12u3",
        )
        for number in range(12)
    ),
    waiting=("postgresql-15=15.14-0+deb12u1",),
    restarts=("postgresql@15-main.service",),
    restarts_avoided=4,
)


def identity_of(number: int) -> str:
    """Return a machine's id."""
    return hashlib.sha256(f"bench machine {number}".encode()).hexdigest()[:32]


@lru_cache(maxsize=200_000)
def key_of(number: int) -> SigningKey:
    """Return a machine's key."""
    return SigningKey(hashlib.sha256(f"bench key {number}".encode()).digest())


@lru_cache(maxsize=200_000)
def host_of(number: int) -> Host:
    """Return a machine's host."""
    text = f"bench host {number}"
    return Host(
        hashlib.sha256(text.encode()).hexdigest(),
        hashlib.sha256(f"{text} hardware".encode()).hexdigest(),
        f"boot-{number}",
    )


@dataclass
class _Seen:
    """What all connections saw."""

    times: list[float] = field(default_factory=list)
    reports: int = 0
    orders: int = 0
    wrong: int = 0


class _Machines:
    """All machines; each knows its counter and what it has to say."""

    def __init__(self, count: int, rate: float) -> None:
        self._count, self._rate, self._turns, self._began = count, rate, 0, time.perf_counter()
        self._next = self._taken = 0
        self._counters = [int(time.time() * 1000)] * count
        self._steps: dict[int, tuple[str, int]] = {}
        self._reports: dict[int, Report] = {}
        self._policies: dict[int, str] = {}
        self._plain = report_hash(REPORT)

    async def turn(self) -> float:
        """Wait for the moment at which the next machine comes; return it, of `time.perf_counter`."""
        if not self._rate:
            return time.perf_counter()
        due = self._began + self._turns / self._rate
        self._turns += 1
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        return due

    def take(self) -> int:
        """Return the number of the machine that comes next."""
        number, self._next = self._next, (self._next + 1) % self._count
        self._taken += 1
        if self._taken % CHANGED_PART == 0:
            changed = msgspec.structs.replace(REPORT, restarts_avoided=self._counters[number] % 1_000_000)
            self._reports[number] = changed
        return number

    def request(self, number: int, *, full: bool) -> bytes:
        """Return a signed request."""
        report = self._reports.get(number)
        reached: tuple[Reached, ...] = ()
        if step := self._steps.get(number):
            reached = (Reached(step[0], _STEPS[step[1]], datetime.now(UTC)),)
        message = CheckIn(
            host_of(number),
            "1.0",
            report_hash(report) if report is not None else self._plain,
            report if full else None,
            reached,
            self._policies.get(number, ""),
        )
        body = encode(message)
        self._counters[number] += 1
        headers = request_headers(
            key_of(number),
            identity_of(number),
            "POST",
            CHECK_IN_PATH,
            body,
            created=int(time.time()),
            counter=self._counters[number],
        )
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return (
            f"POST {CHECK_IN_PATH} HTTP/1.1\r\nHost: bench\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )

    def answered(self, number: int, answer: Answer) -> None:
        """Take down what a machine was told."""
        self._policies[number] = answer.policy_hash
        for order in answer.orders:
            before = self._steps.get(number)
            self._steps[number] = (order.id, min(before[1] + 1, len(_STEPS) - 1) if before else 0)


async def _connection(host: str, port: int, machines: _Machines, seen: _Seen, until: float) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        while time.monotonic() < until:
            began = await machines.turn()
            number = machines.take()
            answer = await _ask(reader, writer, machines.request(number, full=False), seen, began)
            if answer is None:
                continue
            machines.answered(number, answer)
            seen.orders += len(answer.orders)
            if answer.want_report:
                full = await _ask(reader, writer, machines.request(number, full=True), seen, time.perf_counter())
                seen.reports += full is not None
    finally:
        writer.close()


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, seen: _Seen, began: float
) -> Answer | None:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    body = await reader.readexactly(length)
    seen.times.append(time.perf_counter() - began)
    if not head.startswith(b"HTTP/1.1 200"):
        seen.wrong += 1
        return None
    return decode_answer(body)


async def _load(addresses: list[str], count: int, seconds: float, connections: int, rate: float) -> dict[str, float]:
    seen = _Seen()
    servers = [(host, int(port)) for host, _, port in (each.partition(":") for each in addresses)]
    for number in range(count):
        key_of(number)
        host_of(number)
    gc.freeze()
    machines = _Machines(count, rate)
    spent, began = time.process_time(), time.monotonic()
    until = began + seconds
    await asyncio.gather(
        *(_connection(*servers[each % len(servers)], machines, seen, until) for each in range(connections))
    )
    took = time.monotonic() - began
    times = sorted(seen.times)
    return {
        "answered": len(times) - seen.wrong,
        "seconds": took,
        "p50_ms": times[len(times) // 2] * 1000,
        "p99_ms": times[len(times) * 99 // 100] * 1000,
        "reports": seen.reports,
        "orders": seen.orders,
        "wrong": seen.wrong,
        "processor": time.process_time() - spent,
    }


if __name__ == "__main__":
    given = [*sys.argv[2:], "0"]
    print(json.dumps(asyncio.run(_load(sys.argv[1].split(","), int(given[0]), float(given[1]), *map(int, given[2:4])))))
