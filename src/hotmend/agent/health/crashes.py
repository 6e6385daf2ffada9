"""Crashes as the kernel logs them: which process, and at which address, to tell whether it was in new code."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hotmend.agent.record.history import ChangedProcess, Crashed

KERNEL_LOG: Final = Path("/dev/kmsg")
_RECORD_BYTES_MAX: Final = 8192
_MARGIN_US: Final = 1_000_000
"""The kernel's log has a clock of its own, a little away from the monotonic one."""
_HEAD = re.compile(r"\d+,\d+,(?P<at>\d+),")
_TRAP = re.compile(
    r"(?:traps: )?(?P<comm>.{1,15})\[(?P<pid>\d+)\]:? (?P<what>segfault|general protection fault|trap [a-z ]+)"
    r".*?\bip[ :](?P<ip>[0-9a-f]+)"
)


_ABEND = re.compile(r'audit: type=1701 .*?\bpid=(?P<pid>\d+) comm="(?P<comm>[^"]{1,15})" .*?\bsig=(?P<signal>\d+)')
_TOLD_WITH_ADDRESS: Final = frozenset({signal.SIGSEGV, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP})
"""Of these the kernel logs where it was, too."""


@dataclass(frozen=True, slots=True)
class Trap:
    """A process that the kernel ended.

    Attributes:
        at_us: on the monotonic clock, microseconds.
        comm, pid: which; `pid` is the kernel's number, of the first namespace.
        what: such as `segfault`.
        address: of the instruction; 0 where the kernel does not say: of SIGABRT only its audit tells, where that is on.
    """

    at_us: int
    comm: str
    pid: int
    what: str
    address: int


def parse_record(text: str) -> Trap | None:
    """Return the crash that a record of the kernel's log tells of; None for any other."""
    head, _, message = text.partition(";")
    at, found = _HEAD.match(head), _TRAP.match(message)
    if at is not None and (ended := _ABEND.match(message)) and int(ended["signal"]) not in _TOLD_WITH_ADDRESS:
        return Trap(int(at["at"]), ended["comm"], int(ended["pid"]), f"signal {ended['signal']}", 0)
    if at is None or found is None:
        return None
    return Trap(int(at["at"]), found["comm"], int(found["pid"]), found["what"].strip(), int(found["ip"], 16))


def now_us() -> int:
    """Return the moment on the clock of `Trap.at_us`."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def traps_since(since_us: int, log: Path = KERNEL_LOG) -> tuple[Trap, ...]:
    """Return the crashes in the kernel's log since a moment; none where the log cannot be read."""
    try:
        return read_traps(since_us, log)
    except OSError:
        return ()


def read_traps(since_us: int, log: Path = KERNEL_LOG) -> tuple[Trap, ...]:
    """Return the crashes in the kernel's log since a moment.

    Raises:
        OSError: it cannot be read.
    """
    found = [parse_record(text) for text in _records(log)]
    return tuple(trap for trap in found if trap is not None and trap.at_us >= since_us - _MARGIN_US)


def kernel_lines(log: Path = KERNEL_LOG) -> tuple[str, ...]:
    """Return the messages of the kernel's log, oldest first, without their heads.

    Raises:
        OSError: it cannot be read.
    """
    return tuple(text.partition(";")[2].partition("\n")[0] for text in _records(log))


def _records(log: Path) -> Iterator[str]:
    """Yield the records there are, without the lines of keys and values that belong to some."""
    descriptor = os.open(log, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while True:
            try:
                content = os.read(descriptor, _RECORD_BYTES_MAX)
            except BlockingIOError:
                return
            except BrokenPipeError:
                continue  # older records were overwritten meanwhile
            if not content:
                return
            yield from (line for line in content.decode("utf-8", "replace").splitlines() if line[:1] != " ")
    finally:
        os.close(descriptor)


def in_new_code(trap: Trap, changed: Iterable[ChangedProcess]) -> ChangedProcess | None:
    """Return the process in whose new code a crash was; None where it was elsewhere.

    Names and addresses decide: the kernel's number of a process may be another than the one seen from a container,
    and addresses are chosen at random.
    """
    for process in changed:
        if process.comm[:15] == trap.comm and any(start <= trap.address < end for start, end in process.shadows):
            return process
    return None


def crash_in_new_code(
    traps: Iterable[Trap], changed: Sequence[ChangedProcess], hotpatches: tuple[str, ...]
) -> Crashed | None:
    """Return the first crash in the code that these hotpatches brought; None where there is none."""
    for trap in traps:
        process = in_new_code(trap, changed)
        if process is not None:
            return _crashed(trap, process, ours=True, hotpatches=hotpatches)
    return None


def crash_of_changed(traps: Iterable[Trap], changed: Iterable[ChangedProcess]) -> Crashed | None:
    """Return the first crash of one of these processes, wherever it was; of those whose number is the kernel's own."""
    known = {(process.pid, process.comm[:15]): process for process in changed}
    for trap in traps:
        if process := known.get((trap.pid, trap.comm)):
            return _crashed(trap, process, ours=False)
    return None


def _crashed(trap: Trap, process: ChangedProcess, *, ours: bool, hotpatches: tuple[str, ...] = ()) -> Crashed:
    return Crashed(
        pid=process.pid,
        comm=trap.comm,
        unit=process.unit,
        address=trap.address,
        ours=ours,
        hotpatches=hotpatches,
        what=trap.what,
        at_us=trap.at_us,
    )


def crash_text(crash: Crashed) -> str:
    """Return a crash as a sentence."""
    where = "in new code" if crash.ours else "while it was watched"
    at = f" at {crash.address:#x}" if crash.address else ""
    return f"{crash.comm} ({crash.pid}) crashed {where}: {crash.what or 'crash'}{at}"
