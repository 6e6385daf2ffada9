"""How often one caller may ask: a bucket that fills with time, for each caller, in this process."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

CALLERS_MAX: Final = 10_000


@dataclass
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
            bucket.tokens = min(self._most, bucket.tokens + (now - bucket.at) * self._rate)
            bucket.at = now
            if bucket.tokens < 1:
                return (1 - bucket.tokens) / self._rate
            bucket.tokens -= 1
            return 0.0
