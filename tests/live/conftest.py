"""Fixtures of the live tests: compiled targets, started and ended by their own pid."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hotmend.linux import procfs, window
from hotmend.live.transaction import Transaction
from hotmend.model.errors import ProcessGoneError
from tests.live.handmade import compile_target

SOURCE = Path(__file__).with_name("target.c")
OWN_BUILD_ID = f"-Wl,--build-id=0x{secrets.token_hex(20)}"
"""Of this very run: others may run the same tests on this machine, and some tests ask for all processes."""
_COMES_SECONDS_MAX = 30.0


class Target:
    """A running target; `ask` sends one command and returns the answer."""

    def __init__(self, program: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.pid = self.process.pid
        assert self.read() == "ready"

    def send(self, command: str) -> None:
        """Send a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(command)
        self.process.stdin.flush()

    def read(self) -> str:
        """Return the next line."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, command: str) -> str:
        """Send a command and return the answer."""
        self.send(command)
        return self.read()

    def ended(self) -> int | None:
        """Return how it has ended (a signal is negative); None while it runs."""
        try:
            return self.process.wait(1)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


def comes_true(condition: Callable[[], bool]) -> bool:
    """Wait until something was so, were it for a moment: what a test is about has to be there, or it says nothing."""
    limit = time.monotonic() + _COMES_SECONDS_MAX
    while time.monotonic() < limit:
        if condition():
            return True
        time.sleep(0.001)
    return False


def end(pid: int) -> None:
    """Kill a process that is nobody's of ours, and wait until others cannot find it any more."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    assert comes_true(lambda: has_ended(pid))


def has_ended(pid: int) -> bool:
    """Tell whether a process is gone, or waits to be reaped."""
    try:
        return procfs.read_stat(pid).state in "ZX"
    except ProcessGoneError:
        return True


def leaves_after(tries: int, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the target leave the function that it stays in once it was found there so often."""
    found, real = [0], Transaction._attempt

    def attempt(self: Transaction, *arguments: Any, turning: bool) -> float | None:
        seconds = real(self, *arguments, turning=turning)
        if self._last_hits:
            found[0] += 1
            if found[0] == tries:
                target.send("w")
        return seconds

    monkeypatch.setattr(Transaction, "_attempt", attempt)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The target as a PIE."""
    return compile_target(SOURCE, tmp_path_factory.mktemp("live") / "target", OWN_BUILD_ID)


@pytest.fixture(scope="session")
def fixed_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The target as an executable at a fixed address."""
    fixed = ("-no-pie", "-fno-pie", OWN_BUILD_ID)
    return compile_target(SOURCE, tmp_path_factory.mktemp("live") / "target-fixed", *fixed)


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Iterator[Callable[..., Target]]:
    """Start targets that end with the test."""
    running: list[Target] = []

    def begin(program: Path, *arguments: str) -> Target:
        running.append(Target(program, *arguments))
        return running[-1]

    yield begin
    for target in running:
        target.close()


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stop window, compiled from the source as it is now."""
    path = tmp_path_factory.mktemp("window") / "libwindow.so"
    subprocess.run(window.compile_command("gcc", path), check=True)
    return path


@pytest.fixture(params=["c", "python"])
def form(request: pytest.FixtureRequest, library: Path) -> Iterator[str]:
    """Each form of the stop window."""
    assert window.use(library if request.param == "c" else None) == (request.param == "c")
    yield request.param
    window._bound.clear()
