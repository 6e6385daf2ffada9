"""Figures that many look at and that take time to make."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

SHARE: Final = 20
"""What took a second to make is kept for so many: making it costs at most a twentieth of a processor."""


class Kept(Generic[T]):
    """A value that is made anew when it is older than `SHARE` times what making it took.

    Of a small fleet it is always new. While one request makes it, others are given the one before.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._making = threading.Lock()
        self._value: T | None = None
        self._until = 0.0

    def get(self, make: Callable[[], T]) -> T:
        """Return the value; `make` is called where there is none that is young enough."""
        value = self._value
        if value is not None and (self._clock() < self._until or not self._making.acquire(blocking=False)):
            return value
        if value is None:
            self._making.acquire()
        try:
            if self._value is not None and self._clock() < self._until:
                return self._value  # another has made it meanwhile
            began = self._clock()
            made = make()
            ended = self._clock()
            self._value, self._until = made, ended + SHARE * (ended - began)
            return made
        finally:
            self._making.release()


class KeptBy(Generic[T]):
    """Values that are kept by what was asked for: the last so many questions."""

    def __init__(self, most: int = 64) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Kept[T]] = OrderedDict()

    def get(self, asked: Hashable, make: Callable[[], T]) -> T:
        """Return the value; `make` is called where there is none that is young enough."""
        with self._lock:
            kept = self._kept.pop(asked, None) or Kept[T]()
            self._kept[asked] = kept
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return kept.get(make)
