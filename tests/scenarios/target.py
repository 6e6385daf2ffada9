"""A running scenario program: lines in, lines out, with a limit on every wait."""

from __future__ import annotations

import os
import selectors
import subprocess
from pathlib import Path
from types import TracebackType

from .builds import LIBRARY

REPLY_SECONDS_MAX = 60.0


class TargetError(AssertionError):
    """The program died, fell silent or answered what it must not."""


class Target:
    """Starts the program on entry and ends it, by its own pid, on exit."""

    def __init__(self, program: Path, workers: int = 0) -> None:
        self._program = program
        self._workers = workers
        self._rest = b""

    def __enter__(self) -> Target:
        self._process = subprocess.Popen(
            [str(self._program), str(self._workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "SUBJECT": str(self._program.with_name(LIBRARY)), "LC_ALL": "C"},
        )
        self._expect("ready")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self._process.pid

    def say(self, command: str) -> str:
        """Send one line, return the line that comes back."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise TargetError(f"{command}: {self._fate()}") from None
        return self._read_line(command)

    def ask(self) -> str:
        """The answer, computed by the main thread."""
        return self.say("ask")

    def seen(self) -> list[list[str]]:
        """What each worker was answered so far; what it was answered again and again stands there twice."""
        if self._workers == 0:
            return []
        return [worker.split("|") for worker in self.say("seen").split(";")]

    def quit(self) -> None:
        """Ask the program to end, and see it end well."""
        reply = self.say("quit")
        status = self._process.wait(REPLY_SECONDS_MAX)
        if reply != "bye" or status != 0:
            raise TargetError(f"ended with {reply!r}, status {status}")

    def _expect(self, reply: str) -> None:
        if (got := self._read_line("start")) != reply:
            raise TargetError(f"said {got!r} instead of {reply!r}")

    def _fate(self) -> str:
        try:
            status = self._process.wait(10)
        except subprocess.TimeoutExpired:
            return "silent, still running"
        assert self._process.stderr is not None
        said = self._process.stderr.read().decode(errors="replace").strip()
        return f"the program died with status {status}: {said}"

    def _read_line(self, command: str) -> str:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(REPLY_SECONDS_MAX):
                    raise TargetError(f"{command}: {self._fate()}")
                chunk = os.read(self._process.stdout.fileno(), 65536)
                if not chunk:
                    raise TargetError(f"{command}: {self._fate()}")
                self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode(errors="replace")
