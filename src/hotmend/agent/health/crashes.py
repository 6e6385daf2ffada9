"""Crashes as the kernel logs them: which process, and at which address, to tell whether it was in new code."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hotmend.agent.record.history import ChangedProcess, Crashed
from hotmend.linux import procfs
from hotmend.model.errors import HotmendError

KERNEL_LOG: Final = Path("/dev/kmsg")
_RECORD_BYTES_MAX: Final = 8192
_HEAD = re.compile(r"\d+,(?P<sequence>\d+),(?P<at>\d+),")
_TRAP = re.compile(
    r"(?:traps: )?(?P<comm>.{1,15})\[(?P<pid>\d+)\]:? (?P<what>segfault|general protection fault|trap [a-z ]+)"
    r".*?\bip[ :](?P<ip>[0-9a-f]+)(?:.*? in (?P<file>.+?)\[[0-9a-f,]+\+[0-9a-f]+\])?"
)
_ABEND = re.compile(
    r"audit: type=1701 .*?\bpid=(?P<pid>\d+) "
    r'comm=(?:"(?P<comm>[^"]{1,15})"|(?P<hex>(?:[0-9A-F]{2}){1,15})) .*?\bsig=(?P<signal>\d+)'
)
"""A name with a blank in it is told in hexadecimal digits."""
_TOLD_WITH_ADDRESS: Final = frozenset({signal.SIGSEGV, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP})
"""Of these the kernel logs where it was, too."""


@dataclass(frozen=True, slots=True)
class Trap:
    """A process that the kernel ended.

    Attributes:
        at_us: on the clock of the kernel's log, microseconds. No other clock goes like it: in weeks they are many
            seconds apart.
        comm, pid: of the thread, and in the audit's lines the process's number; the kernel's, of the first namespace.
        what: such as `segfault`.
        address: of the instruction; 0 where the kernel does not say: of SIGABRT only its audit tells, where that is on.
        file: that the instruction is from; "" for memory that is no file's, as new code's is.
    """

    at_us: int
    comm: str
    pid: int
    what: str
    address: int
    file: str = ""


def parse_record(text: str) -> Trap | None:
    """Return the crash that a record of the kernel's log tells of; None for any other."""
    head, _, message = text.partition(";")
    at, found = _HEAD.match(head), _TRAP.match(message)
    if at is not None and (ended := _ABEND.match(message)) and int(ended["signal"]) not in _TOLD_WITH_ADDRESS:
        comm = ended["comm"] or procfs.legible(bytes.fromhex(ended["hex"]).decode("utf-8", "surrogateescape"))
        return Trap(int(at["at"]), comm, int(ended["pid"]), f"signal {ended['signal']}", 0)
    if at is None or found is None:
        return None
    what, address = found["what"].strip(), int(found["ip"], 16)
    return Trap(int(at["at"]), found["comm"], int(found["pid"]), what, address, found["file"] or "")


def traps_since(sequence: int, log: Path = KERNEL_LOG) -> tuple[Trap, ...]:
    """Return the crashes in the kernel's log from a record on; none where the log cannot be read."""
    try:
        return read_traps(sequence, log)[0]
    except OSError:
        return ()


def read_traps(sequence: int, log: Path = KERNEL_LOG) -> tuple[tuple[Trap, ...], int]:
    """Return the crashes in the kernel's log from a record on, and the record that will come next.

    Args:
        sequence: number of the record; each boot counts from 0.
        log: of the kernel.

    Raises:
        OSError: it cannot be read.
    """
    found, end = [], sequence
    for text in _records(log):
        head = _HEAD.match(text)
        if head is None or int(head["sequence"]) < sequence:
            continue
        end = max(end, int(head["sequence"]) + 1)
        if (trap := parse_record(text)) is not None:
            found.append(trap)
    return tuple(found), end


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

    The address decides: names are those of threads, numbers may be others than those seen from a container, and
    processes that were forked later have neither on record. Addresses are chosen at random; where another program is
    always at the same ones, the kernel names its file.
    """
    if trap.file:
        return None
    for process in changed:
        if any(start <= trap.address < end for start, end in process.shadows):
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


Threads = dict[tuple[int, str], int]
"""Processes by number and name of their threads; by their own number and the names of their threads, too."""


def note_threads(pids: Iterable[int], threads: Threads) -> None:
    """Add the threads of processes, as the kernel's log names them: of what has crashed they cannot be learnt."""
    for pid in pids:
        with contextlib.suppress(HotmendError):
            for tid in procfs.list_threads(pid):
                with contextlib.suppress(HotmendError):
                    name = procfs.read_thread_stat(pid, tid).comm
                    threads.update({(tid, name): pid, (pid, name): pid})


def crash_of_changed(
    traps: Iterable[Trap], changed: Iterable[ChangedProcess], threads: Threads | None = None
) -> Crashed | None:
    """Return the first crash of one of these processes, wherever it was; of those whose number is the kernel's own.

    Args:
        traps: from the kernel's log.
        changed: processes.
        threads: theirs, from `note_threads`.
    """
    by_pid = {process.pid: process for process in changed}
    known = {key: by_pid[pid] for key, pid in (threads or {}).items() if pid in by_pid}
    known |= {(process.pid, process.comm[:15]): process for process in by_pid.values()}
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
