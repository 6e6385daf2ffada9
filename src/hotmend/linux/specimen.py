"""A process made to be tried things on: it runs under one seccomp filter that allows everything, and waits.

It ends with its standard input, so also when whoever started it is killed.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys as interpreter
from collections.abc import Iterator

from hotmend.linux import sys
from hotmend.linux.seccomp import INSTRUCTION, Action
from hotmend.model.errors import KernelError

ALLOW_ALL = INSTRUCTION.pack(0x06, 0, 0, int(Action.ALLOW))
"""The filter: one return instruction."""

READY, UNFILTERED = "ready", "unfiltered"


@contextlib.contextmanager
def specimen() -> Iterator[tuple[int, bool]]:
    """Start one for the block; yields its pid, and whether it could put itself under the filter.

    Raises:
        KernelError: it did not start.
    """
    command = [interpreter.executable, "-m", "hotmend.linux.specimen"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            said = process.stdout.readline().strip() if process.stdout is not None else ""
            if said not in (READY, UNFILTERED):
                raise KernelError("a process to try things on did not start")
            yield process.pid, said == READY
        finally:
            process.kill()


def main() -> None:
    """Be one."""
    said = READY
    try:
        sys.confine_self(ALLOW_ALL)
    except OSError:
        said = UNFILTERED
    print(said, flush=True)  # noqa: T201 - this is what its parent waits for
    interpreter.stdin.read()


if __name__ == "__main__":
    main()
