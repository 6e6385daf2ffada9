"""How often one may ask: a bucket that fills with time, for each caller, in this process.

Who is let in at all costs a look into the database or a signature checked. So refusals are counted by address, and one
that has had too many is refused before that, except whom this process has known lately: many may be behind one
address, as behind a load balancer, and one of them shall not shut out the others.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, Generic, TypeVar

from hotmend.server.problem import Problem

CALLERS_MAX: Final = 10_000
KNOWN_MAX: Final = 200_000

T = TypeVar("T")


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Limiter:
    """Buckets by caller; the ones unused for longest are forgotten, which can only be in their favour.

    Args:
        per_minute: how many requests come back each minute; as many may come at once.
    """

    def __init__(self, per_minute: int) -> None:
        self._most = float(per_minute)
        self._rate = per_minute / 60
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def wait_seconds(self, caller: str, now: float | None = None) -> float:
        """Take one request off a caller's bucket: 0.0, or how long to wait where there is none left."""
        now = time.monotonic() if now is None else now
        with self._lock:
            bucket = self._buckets.pop(caller, None) or _Bucket(self._most, now)
            self._buckets[caller] = bucket
            while len(self._buckets) > CALLERS_MAX:
                self._buckets.popitem(last=False)
            bucket.tokens = self._filled(bucket, now)
            bucket.at = now
            if bucket.tokens < 1:
                return (1 - bucket.tokens) / self._rate
            bucket.tokens -= 1
            return 0.0

    def would_wait(self, caller: str, now: float | None = None) -> float:
        """Return what `wait_seconds` would, and take nothing."""
        now = time.monotonic() if now is None else now
        with self._lock:
            bucket = self._buckets.get(caller)
            tokens = self._most if bucket is None else self._filled(bucket, now)
        return 0.0 if tokens >= 1 else (1 - tokens) / self._rate

    def _filled(self, bucket: _Bucket, now: float) -> float:
        return min(self._most, bucket.tokens + (now - bucket.at) * self._rate)


class Known(Generic[T]):
    """Who was let in lately, with what that is to be known by; the ones not seen for longest are forgotten."""

    def __init__(self, most: int = KNOWN_MAX) -> None:
        self._most = most
        self._known: OrderedDict[str, T] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, name: str, value: T) -> None:
        """Remember one."""
        with self._lock:
            self._known[name] = value
            self._known.move_to_end(name)
            if len(self._known) > self._most:
                self._known.popitem(last=False)

    def get(self, name: str) -> T | None:
        """Return what one is known by; None: not known here."""
        return self._known.get(name)

    def forget(self, name: str) -> None:
        """Know one no more."""
        with self._lock:
            self._known.pop(name, None)


def too_often(wait_seconds: float, what: str = "too many requests") -> Problem:
    """Return the problem that somebody asks too often."""
    return Problem(429, "too-often", what, "wait", {"Retry-After": str(int(wait_seconds) + 1)})


def address_of(client: Any) -> str:
    """Return whom an address stands for: of IPv6 the network of 64 bits, which is what one customer has.

    Args:
        client: host and port, as ASGI has them; None: not known.
    """
    return _network(client[0]) if client else "?"


@lru_cache(maxsize=10_000)
def _network(host: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return address.exploded[:19] if isinstance(address, IPv6Address) else host
