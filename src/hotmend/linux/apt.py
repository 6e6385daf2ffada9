"""Calls of apt, outside of a sandbox: one with a limit, and one that changes the machine and is never cut off."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from hotmend.linux.outside import outside
from hotmend.model.errors import FetchError, HotmendError

APT_SECONDS_MAX: Final = 600
_FIRST_ITS_PID: Final = 'echo $$ && read -r go && exec "$@" </dev/null'
"""For sh(1). The process that says its pid becomes the program, when it is told to."""
_LOOK_SECONDS: Final = 0.02
_LOCKS: Final = (Path("/var/lib/dpkg/lock-frontend"), Path("/var/lib/dpkg/lock"))
"""Held by apt and dpkg while they change the machine; dpkg holds the second even where apt was killed above it."""
_FLOCK: Final = struct.Struct("hhqqi4x")


def call_apt(
    command: Sequence[str],
    variables: Mapping[str, str],
    *,
    directory: Path | str | None = None,
    seconds_max: int = APT_SECONDS_MAX,
    hint: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run one of apt's programs; what it says, and in which words it failed, is for the caller to judge.

    Args:
        command: program and arguments.
        variables: that it needs beside the usual ones.
        directory: where it runs; None: anywhere.
        seconds_max: when it is given up.
        hint: what to do where there is no apt.

    Raises:
        FetchError: it is not installed, or did not end in time.
    """
    try:
        return subprocess.run(
            outside(command, variables, directory=directory),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds_max,
            env=os.environ | variables,
            check=False,
        )
    except FileNotFoundError:
        raise FetchError(f"{command[0]} is not installed", hint) from None
    except subprocess.TimeoutExpired:
        raise FetchError(f"{command[0]} did not end within {seconds_max} s") from None


def call_apt_to_its_end(
    command: Sequence[str], variables: Mapping[str, str], before: Callable[[int], None]
) -> subprocess.CompletedProcess[str]:
    """Run one of apt's programs that changes the machine, however long it takes.

    It goes on where this process ends before it: what it prints goes into files, and no pipe breaks.

    Args:
        command: program and arguments.
        variables: that it needs beside the usual ones.
        before: called with its pid before it begins; where that raises, it does not.

    Raises:
        FetchError: it cannot be started.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as out, tempfile.TemporaryFile("w+", errors="replace") as err:
        try:
            process = subprocess.Popen(
                outside(["sh", "-c", _FIRST_ITS_PID, "sh", *command], variables),
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                text=True,
                env=os.environ | variables,
            )
        except OSError as error:
            raise FetchError(f"{error.filename}: {error.strerror}") from error
        with process:
            while not (pid := _first_line(out)) and process.poll() is None:
                time.sleep(_LOOK_SECONDS)
            assert process.stdin is not None  # noqa: S101 - it is a pipe, see above
            with contextlib.suppress(BrokenPipeError), process.stdin:
                if pid:
                    before(_number(pid))
                    process.stdin.write("go\n")
        out.seek(0)
        err.seek(0)
        _, _, printed = out.read().partition("\n")
        return subprocess.CompletedProcess(command, process.returncode, printed, err.read())


def _number(pid: str) -> int:
    if not pid.isdecimal():
        raise FetchError(f"a pid was to come, not {pid!r}")
    return int(pid)


def _first_line(file: IO[str]) -> str:
    """Return the first line of what is being written to a file; "" until it is there as a whole."""
    line = os.pread(file.fileno(), 32, 0).decode(errors="replace")
    return line.partition("\n")[0] if "\n" in line else ""


def at_work(locks: Sequence[Path] = _LOCKS) -> int | None:
    """Return the pid of the apt or dpkg that is changing the machine; None where there is none.

    Nothing is locked to find out. 0: it is in another pid namespace.

    Raises:
        HotmendError: nobody can tell.
    """
    for lock in locks:
        try:
            with lock.open("rb") as file:
                asked = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
                kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(file, fcntl.F_GETLK, asked))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise HotmendError(f"{lock}: {error.strerror or error}") from error
        if kind != fcntl.F_UNLCK:
            return int(pid)
    return None


def complaints_of(said: str) -> list[str]:
    """Return apt's own complaints in what it wrote to stderr."""
    return [line.removeprefix("E: ") for line in said.splitlines() if line.startswith("E: ")]
