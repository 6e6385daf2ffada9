"""Processes a test starts: run in the foreground under a time limit, identified, stopped by pid."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LIFE_SECONDS_MAX = 900
READY_SECONDS_MAX = 20
STOP_SECONDS_MAX = 10
START_TIME_FIELD = 22


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """What tells a process from a later one with the same pid.

    Attributes:
        pid: process id.
        start_ticks: field 22 of `/proc/PID/stat`.
    """

    pid: int
    start_ticks: int


def identity_read(pid: int) -> Identity:
    """Return the identity of a living process."""
    text = Path(f"/proc/{pid}/stat").read_text()
    fields = text.rpartition(")")[2].split()
    return Identity(pid, int(fields[START_TIME_FIELD - 3]))


def cpu_seconds(pid: int) -> float:
    """Return the user and system time that a process has used, all threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[14 - 3]) + int(fields[15 - 3])) / os.sysconf("SC_CLK_TCK")


def children_list(pid: int) -> list[int]:
    """Return the pids of the direct children of `pid`, of all its threads."""
    found: set[int] = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found.update(int(word) for word in path.read_text().split())
    return sorted(found)


def threads_count(pid: int) -> int:
    """Return the number of threads of a process."""
    return len(os.listdir(f"/proc/{pid}/task"))


def port_free() -> int:
    """Return a TCP port on loopback that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ports_free(count: int) -> list[int]:
    """Return `count` different free TCP ports on loopback."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def port_open(port: int) -> bool:
    """Return whether something accepts connections on a loopback port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def wait_until(condition: Callable[[], bool], what: str, seconds: float = READY_SECONDS_MAX) -> None:
    """Poll `condition` until it holds.

    Raises:
        TimeoutError: it did not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


@dataclass(slots=True)
class Server:
    """A server started from an unpacked package.

    Attributes:
        name: for messages.
        folder: its working directory; the log is `output.log` in it.
        port: where the load goes.
        ports: further ports by name.
        pid: the process that the package's program runs in (the master, where there are several).
        workers: how many child processes serve; 0 where `pid` itself does.
    """

    name: str
    folder: Path
    port: int
    pid: int
    guard: subprocess.Popen[bytes]
    workers: int = 0
    ports: Mapping[str, int] = field(default_factory=dict)

    def pids(self) -> list[int]:
        """Return the pids of all its processes, the master first."""
        return [self.pid, *children_list(self.pid)]

    def identities(self) -> list[Identity]:
        """Return the identities of all its processes; without those that end while they are asked."""
        found = [identity_read(self.pid)]
        for pid in children_list(self.pid):
            with contextlib.suppress(OSError):
                found.append(identity_read(pid))
        return sorted(found)

    def log(self) -> str:
        """Return what it printed so far."""
        return (self.folder / "output.log").read_text(errors="replace")

    def stop(self) -> None:
        """End exactly the processes that were started, politely first."""
        remaining = self.pids() if self.guard.poll() is None else []
        _signal(self.pid if remaining else None, signal.SIGTERM)
        try:
            self.guard.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            for pid in remaining:
                _signal(pid, signal.SIGKILL)
            self.guard.wait(STOP_SECONDS_MAX)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def server_start(
    name: str,
    command: Sequence[str],
    folder: Path,
    port: int,
    *,
    workers: int = 0,
    environment: Mapping[str, str] | None = None,
    ports: Mapping[str, int] | None = None,
) -> Server:
    """Run `command` in the foreground below `timeout`, and wait until it listens and has its workers.

    The time limit ends the server even when the test run itself is killed.
    """
    log = (folder / "output.log").open("ab")
    guard = subprocess.Popen(
        ["timeout", "--foreground", "--kill-after=5", str(LIFE_SECONDS_MAX), *command],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    log.close()
    server = Server(name, folder, port, 0, guard, workers, ports or {})
    try:
        wait_until(lambda: _child_ready(server, command[0]), f"{name} starts")
        listening = [port, *server.ports.values()]
        wait_until(lambda: _ready(server, listening), f"{name} listens on {listening}")
    except (TimeoutError, RuntimeError) as error:
        server.stop()
        raise RuntimeError(f"{name} did not start: {error}\n{server.log()}") from error
    return server


def _child_ready(server: Server, program: str) -> bool:
    if server.guard.poll() is not None:
        raise RuntimeError(f"it ended with {server.guard.returncode}")
    for pid in children_list(server.guard.pid):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/exe").resolve().name != "timeout":
                server.pid = pid
                return True
    return program == ""


def _ready(server: Server, ports: Sequence[int]) -> bool:
    if server.guard.poll() is not None:
        raise RuntimeError(f"it ended with {server.guard.returncode}")
    return all(port_open(port) for port in ports) and len(children_list(server.pid)) >= server.workers


def _signal(pid: int | None, number: signal.Signals) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
