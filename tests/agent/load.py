"""Clients that ask a server of a machine without a pause, and count what came back."""

from __future__ import annotations

import itertools
import shlex
import subprocess
from dataclasses import dataclass
from types import TracebackType

from tests.agent.machine import Machine

_numbers = itertools.count()
_CODE = """
import pathlib, socket, subprocess, urllib.request
{ask}
good, bad = 0, []
while not pathlib.Path("{end}").exists():
    try:
        right = ask()
        good += right
        if not right:
            bad.append("another answer")
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        bad.append(repr(error))
    if good == 1:
        pathlib.Path("{begun}").touch()
print(good, len(bad), bad[:3])
"""


def http(port: int, text: str = "", path: str = "/") -> str:
    """Ask for a page, by a new connection each time; it has to hold `text`."""
    return f"""
def ask():
    with urllib.request.urlopen("http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return {text.encode()!r} in answer.read()
"""


def redis(port: int) -> str:
    """Write and read a value again, by one connection for ten requests."""
    return f"""
def ask():
    with socket.create_connection(("127.0.0.1", {port}), timeout=10) as server:
        file = server.makefile("rwb")
        for number in range(10):
            file.write(b"SET key %d\\r\\nGET key\\r\\n" % number)
            file.flush()
            answer = file.readline() + file.readline() + file.readline()
            if answer != b"+OK\\r\\n$1\\r\\n%d\\r\\n" % number:
                return False
    return True
"""


def ssh(port: int) -> str:
    """Log in by a key, and have one command run.

    On SIGHUP sshd closes its socket and executes itself, patched or not: who comes just then tries once more.
    """
    options = "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    options += " -o ConnectionAttempts=10"
    command = ["ssh", *options.split(), "-i", "/root/.ssh/test", "-p", str(port), "root@127.0.0.1", "echo here"]
    return f"""
def ask():
    return subprocess.run({command!r}, capture_output=True, timeout=20).stdout == b"here\\n"
"""


def postgres(port: int) -> str:
    """Connect, and run a procedure, whose language the new process loads from the disk."""
    sql = "do language plpgsql $$ begin perform 1; end $$"
    command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    command += ["psql", "-h", "/var/run/postgresql", "-p", str(port), "-d", "postgres", "-Atc", sql]
    return f"""
def ask():
    return subprocess.run({command!r}, capture_output=True, timeout=20, cwd="/").stdout == b"DO\\n"
"""


@dataclass(frozen=True)
class Count:
    """What came back: right answers, and all else, with its first examples."""

    good: int
    bad: int
    examples: str

    @property
    def fine(self) -> bool:
        """Whether there were answers, and all of them right."""
        return self.good > 0 and self.bad == 0


class Load:
    """Asks from entry, where the first right answer is waited for, to exit; `count` is there afterwards."""

    def __init__(self, machine: Machine, ask: str) -> None:
        self._machine = machine
        number = next(_numbers)
        self._begun, self._end = f"/run/load-begun-{number}", f"/run/load-end-{number}"
        self._code = _CODE.format(ask=ask, begun=self._begun, end=self._end)
        self.count = Count(0, 0, "")

    def __enter__(self) -> Load:
        """Begin."""
        # Servers and what changes them come first: a client that spins would take their processor.
        command = self._machine.command(f"exec nice -n 15 python3 -c {shlex.quote(self._code)}")
        self._client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._machine.run(f"for i in $(seq 1200); do test -e {self._begun} && exit; sleep 0.1; done; exit 1")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, and count."""
        self._machine.run(f"touch {self._end}")
        told, _ = self._client.communicate(timeout=300)
        good, bad, examples = told.split(" ", 2)
        self.count = Count(int(good), int(bad), examples)
