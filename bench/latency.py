"""The worst latency one client sees: while patching, while nginx reloads, while it restarts."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bench.report import Figure, progress

REPEATS = 5
QUIET_SECONDS = 0.5
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
GIVE_UP_SECONDS = 10.0


@dataclass(slots=True)
class Prober:
    """A client that keeps one connection and sends the next request when the answer is there.

    A request whose connection fails is sent again on a new one until it is answered; its latency counts from
    the first attempt, and the failure is counted.

    Attributes:
        port: on loopback.
        latencies_ms: of every request.
        failures: connections refused, reset or closed before the answer.
    """

    port: int
    latencies_ms: list[float] = field(default_factory=list)
    failures: int = 0
    _ending: threading.Event = field(default_factory=threading.Event)
    _link: socket.socket | None = None

    def run(self) -> None:
        """Send requests until told to end."""
        while not self._ending.is_set():
            start = time.perf_counter()
            while not self._request() and time.perf_counter() - start < GIVE_UP_SECONDS:
                self.failures += 1
                time.sleep(0.001)
            self.latencies_ms.append((time.perf_counter() - start) * 1000)
        self._close()

    def end(self) -> None:
        """Tell it to end after the request in flight."""
        self._ending.set()

    def _request(self) -> bool:
        try:
            if self._link is None:
                self._link = socket.create_connection(("127.0.0.1", self.port), timeout=GIVE_UP_SECONDS)
                self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._link.sendall(REQUEST)
            answer = self._link.recv(65536)
            if answer.startswith(b"HTTP/1.1 200") and not self._closing(answer):
                return True
            done = answer.startswith(b"HTTP/1.1 200")
        except OSError:
            done = False
        self._close()
        return done

    @staticmethod
    def _closing(answer: bytes) -> bool:
        return b"\r\nconnection: close" in answer.lower()

    def _close(self) -> None:
        if self._link is not None:
            with contextlib.suppress(OSError):
                self._link.close()
        self._link = None


def probe_during(port: int, action: Callable[[], None]) -> Prober:
    """Probe while `action` runs, and a little before and after."""
    prober = Prober(port)
    thread = threading.Thread(target=prober.run, daemon=True)
    thread.start()
    try:
        time.sleep(QUIET_SECONDS)
        action()
        time.sleep(QUIET_SECONDS)
    finally:
        prober.end()
        thread.join(GIVE_UP_SECONDS + 1)
    return prober


@dataclass(frozen=True, slots=True)
class Deeds:
    """What is done to the server while it is probed."""

    patch: Callable[[], None]
    reload: Callable[[], None]
    restart: Callable[[], None]


def latency_measure(port: int, deeds: Deeds) -> Iterator[Figure]:
    """Yield the worst latency of each deed, over several repeats."""
    progress("worst latency: quiet, patching, reload, restart")
    quiet = _worst(port, lambda: time.sleep(QUIET_SECONDS))
    patch = _worst(port, deeds.patch)
    reload = _worst(port, deeds.reload)
    restart = _worst(port, deeds.restart)
    section = f"Worst latency of one kept-alive client, {REPEATS} times"
    yield Figure(section, "nothing happens", quiet[0], "ms", note=_failed(quiet[1]))
    yield Figure(section, "apply and revert", patch[0], "ms", quiet[0], "nothing happens", _failed(patch[1]))
    yield Figure(section, "apply and revert, beside a reload", patch[0], "ms", reload[0], "nginx -s reload")
    yield Figure(section, "apply and revert, beside a restart", patch[0], "ms", restart[0], "restart")
    yield Figure(section, "nginx -s reload", reload[0], "ms", quiet[0], "nothing happens", _failed(reload[1]))
    yield Figure(section, "restart", restart[0], "ms", quiet[0], "nothing happens", _failed(restart[1]))


def _worst(port: int, action: Callable[[], None]) -> tuple[float, int]:
    probers = [probe_during(port, action) for _ in range(REPEATS)]
    return max(max(p.latencies_ms) for p in probers), sum(p.failures for p in probers)


def _failed(count: int) -> str:
    return f"{count} failed attempts"
