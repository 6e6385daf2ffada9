"""`python -m bench.outage_load HOST:PORT MACHINES INTERVAL SECONDS`: machines that come in their rhythm, outage or not.

Each makes a new connection for a check-in, as agents do, and waits by the agents' own rule until the next one. Printed
is one JSON object: how many came in each second of the clock, how many answers were wrong, and when the last machine
was answered again.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from bench.checkin_load import REPORT, host_of, identity_of, key_of
from hotmend.agent.uplink.rhythm import wait_seconds
from hotmend.wire.messages import CHECK_IN_PATH, CheckIn, decode_answer, encode
from hotmend.wire.report import report_hash
from hotmend.wire.signing import request_headers

_SECONDS_MAX = 30.0
_PLAIN = report_hash(REPORT)


@dataclass
class _Seen:
    """What all machines saw: when they came, by second of the clock; who was not answered, and when nobody was left."""

    came: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    missing: dict[int, float] = field(default_factory=dict)
    all_back: float = 0.0
    milliseconds: list[float] = field(default_factory=list)


async def _machine(number: int, address: tuple[str, int], interval: int, until: float, seen: _Seen) -> None:
    usual, failures, policy = interval, 0, ""
    counter = int(time.time() * 1000)
    due = time.time() + random.random() * interval
    while due < until:
        await asyncio.sleep(max(0.0, due - time.time()))
        counter += 1
        seen.came[int(due)] += 1  # each machine has a processor of its own: what this one is late is not theirs
        began = time.perf_counter()
        try:
            status, body = await asyncio.wait_for(_ask(number, address, counter, policy), _SECONDS_MAX)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            failures += 1
            seen.missing[number] = began
        else:
            if status == 200:
                answer = decode_answer(body)
                usual, policy, failures = answer.next_seconds, answer.policy_hash, 0
                seen.milliseconds.append((time.perf_counter() - began) * 1000)
                if seen.missing.pop(number, None) is not None:
                    seen.all_back = time.time()
            else:
                failures += 1
                seen.wrong += 1
        due = time.time() + wait_seconds(usual, failures, random.random)


async def _ask(number: int, address: tuple[str, int], counter: int, policy: str) -> tuple[int, bytes]:
    body = encode(CheckIn(host_of(number), "1.0", _PLAIN, None, (), policy))
    created = int(time.time())
    headers = request_headers(
        key_of(number), identity_of(number), "POST", CHECK_IN_PATH, body, created=created, counter=counter
    )
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {CHECK_IN_PATH} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n{lines}"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(head.encode() + body)
        told = await reader.readuntil(b"\r\n\r\n")
        length = int(told.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        return int(told.split(b" ", 2)[1]), await reader.readexactly(length)
    finally:
        writer.close()


async def _load(address: str, count: int, interval: int, seconds: float) -> dict[str, object]:
    host, _, port = address.partition(":")
    for number in range(count):
        key_of(number)
        host_of(number)
    gc.freeze()
    seen, until = _Seen(), time.time() + seconds
    await asyncio.gather(*(_machine(number, (host, int(port)), interval, until, seen) for number in range(count)))
    return {
        "came": dict(seen.came),
        "wrong": seen.wrong,
        "missing": len(seen.missing),
        "all_back": seen.all_back,
        "p99_ms": sorted(seen.milliseconds)[int(len(seen.milliseconds) * 0.99)] if seen.milliseconds else 0.0,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_load(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))))
