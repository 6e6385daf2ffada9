"""Load on loopback from the usual generators, bounded in time, with every failed request counted."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .packages import tool_require
from .process import Server

SECONDS_MAX = 120
STOP_SECONDS_MAX = 15
ROUND_SECONDS_MAX = 60
CONNECTIONS = 16
REDIS_ROUND_REQUESTS = 20_000


@dataclass(frozen=True, slots=True)
class Result:
    """What a load generator saw.

    Attributes:
        requests: completed requests.
        failures: failed, refused, reset, timed out or answered with another status than 2xx.
        per_second: completed requests per second.
        printed: what it printed, for messages.
    """

    requests: int
    failures: int
    per_second: float
    printed: str


class Load(Protocol):
    """A load that runs in the background."""

    def running(self) -> bool:
        """Return whether requests are still being sent."""

    def stop(self) -> Result:
        """End it and return what it saw."""


def _count(pattern: str, printed: str) -> int:
    return sum(int(number) for number in re.findall(pattern, printed))


def wrk_parse(printed: str) -> Result:
    """Read the summary of `wrk`; a summary that is not there counts as a failure."""
    done = re.search(r"(\d+) requests in ", printed)
    speed = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", printed)
    failures = sum(int(n) for n in errors.groups()) if errors else 0
    failures += _count(r"Non-2xx or 3xx responses: (\d+)", printed)
    if done is None or speed is None:
        return Result(0, failures + 1, 0.0, printed)
    return Result(int(done[1]), failures, float(speed[1]), printed)


def ab_parse(printed: str) -> Result:
    """Read the summary of `ab`; a summary that is not there counts as a failure."""
    done = re.search(r"Complete requests:\s+(\d+)", printed)
    speed = re.search(r"Requests per second:\s+([\d.]+)", printed)
    failures = _count(r"(?:Failed requests|Write errors|Non-2xx responses):\s+(\d+)", printed)
    if done is None or speed is None:
        return Result(0, failures + 1, 0.0, printed)
    return Result(int(done[1]), failures, float(speed[1]), printed)


@dataclass(slots=True)
class _Generator:
    """A generator that prints its summary when interrupted."""

    process: subprocess.Popen[str]
    parse_name: str

    def running(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> Result:
        if self.running():
            self.process.send_signal(signal.SIGINT)
        printed, _ = self.process.communicate(timeout=STOP_SECONDS_MAX)
        return wrk_parse(printed) if self.parse_name == "wrk" else ab_parse(printed)


def _generator_start(name: str, command: Sequence[str]) -> Load:
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return _Generator(process, name)


def wrk_start(server: Server, path: str = "/", *, connections: int = CONNECTIONS, scheme: str = "http") -> Load:
    """Send GET requests over kept-alive connections with `wrk`."""
    url = f"{scheme}://127.0.0.1:{server.port}{path}"
    options = ["-t1", f"-c{connections}", f"-d{SECONDS_MAX}s", "--timeout", "5s"]
    return _generator_start("wrk", [tool_require("wrk"), *options, url])


def ab_start(server: Server, path: str = "/", *, connections: int = 8) -> Load:
    """Send GET requests over kept-alive connections with `ab`."""
    url = f"http://127.0.0.1:{server.port}{path}"
    options = ["-q", "-k", "-r", f"-c{connections}", f"-t{SECONDS_MAX}", "-n100000000", "-s5"]
    return _generator_start("ab", [tool_require("ab"), *options, url])


@dataclass(slots=True)
class RedisLoad:
    """`redis-benchmark`, round after round; it cannot be interrupted with a summary."""

    port: int
    started: float = field(default_factory=time.monotonic)
    done: int = 0
    failures: int = 0
    printed: list[str] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> RedisLoad:
        """Begin the first round."""
        self._thread = threading.Thread(target=self._rounds, daemon=True)
        self._thread.start()
        return self

    def running(self) -> bool:
        """Return whether requests are still being sent."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> Result:
        """Let the round end and return what all rounds saw."""
        self._ending.set()
        if self._thread is not None:
            # On a busy machine a round takes long, and only whole ones are counted.
            self._thread.join(ROUND_SECONDS_MAX)
        seconds = time.monotonic() - self.started
        return Result(self.done, self.failures, self.done / seconds, "\n".join(self.printed))

    def _rounds(self) -> None:
        command = [tool_require("redis-benchmark"), "-h", "127.0.0.1", "-p", str(self.port), "-q"]
        command += ["-n", str(REDIS_ROUND_REQUESTS // 2), "-c", str(CONNECTIONS), "-t", "set,get"]
        while not self._ending.is_set() and time.monotonic() - self.started < SECONDS_MAX:
            try:
                round_ = subprocess.run(
                    command,
                    check=False,
                    capture_output=True,
                    text=True,
                    timeout=ROUND_SECONDS_MAX,
                    stdin=subprocess.DEVNULL,
                )
            except subprocess.TimeoutExpired:
                self.failures += 1
                self.printed.append(f"a round did not end within {ROUND_SECONDS_MAX} s")
                return
            said = round_.stdout.replace("\r", "\n") + round_.stderr
            wrong = round_.returncode != 0 or re.search(r"error|could not|closed|reset", said, re.IGNORECASE)
            summaries = len(re.findall(r"^(?:SET|GET): [\d.]+ requests per second", said, re.MULTILINE))
            self.failures += 1 if wrong or summaries != 2 else 0
            self.done += REDIS_ROUND_REQUESTS if summaries == 2 else 0
            if wrong:
                self.printed.append(said[-2000:])
                return


def redis_load_start(server: Server) -> Load:
    """Send SET and GET commands with `redis-benchmark`."""
    return RedisLoad(server.port).start()
