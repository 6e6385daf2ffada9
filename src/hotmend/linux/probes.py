"""What this machine allows, each thing found out by doing it: on a process of our own, or on ourselves."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from hotmend.linux import procfs, remote, sys, window
from hotmend.linux.calm import calm
from hotmend.linux.execs import ExecEvents
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.stacks import find_restorers
from hotmend.linux.stop import Stopped, Stopper
from hotmend.model.addresses import PAGE_BYTES
from hotmend.model.errors import HotmendError, KernelError

_STOP_SECONDS, _CALL_SECONDS = 0.5, 2.0
_PRIORITY = 10
_STOP_WINDOW_REMEDY = f"install a wheel that was built where there is a C compiler, and unset {window.VARIABLE}"
_MAP_PRIVATE_ANONYMOUS, _READ_EXECUTE = 0x22, 5


class Found(StrEnum):
    """What a check came to. Whatever could not be found out is not a yes."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that hotmend uses or that gets in its way.

    Attributes:
        name: kebab-case.
        found: whether it is as hotmend wants it.
        needed: whether nothing can be applied without it.
        detail: what was seen.
        remedy: what a person can do; "" where it is as wanted.
    """

    name: str
    found: Found
    needed: bool
    detail: str
    remedy: str


AS_ROOT = "run as root, or with CAP_SYS_PTRACE in the first user namespace"


def probe(name: str, attempt: Callable[[], str], remedy: str, *, needed: bool = True) -> Check:
    """Return the check of something that works if `attempt` returns: what it saw; an `OSError` or ours is a no."""
    try:
        return Check(name, Found.YES, needed, attempt(), "")
    except (HotmendError, OSError) as error:
        return Check(name, Found.NO, needed, str(error), remedy)


def specimen_checks(pid: int, *, filtered: bool) -> list[Check]:
    """Return everything that is tried on process `pid`, which is ours."""
    stopper = Stopper(pid)
    return [
        probe("stop", lambda: _stop(stopper), f"{AS_ROOT}; yama must not forbid it (kernel.yama.ptrace_scope)"),
        probe("read-memory", lambda: _read(pid), AS_ROOT),
        probe(
            "write-code",
            lambda: _write_code(stopper),
            AS_ROOT,
        ),
        probe("compare-processes", lambda: _compare(pid), "a kernel with CONFIG_KCMP (5.12 or later: always there)"),
        probe("rseq", lambda: _rseq(stopper), "Linux 5.13 or later"),
        _filters(stopper, filtered=filtered),
        probe("remote-call", lambda: _remote_call(stopper), "see the checks above it"),
    ]


def _with_stop(stopper: Stopper, act: Callable[[Stopped], str]) -> str:
    """Run `act` while the process is stopped."""
    stopped = stopper.stop(_STOP_SECONDS)
    try:
        return act(stopped)
    finally:
        stopper.release(stopped)


def _stop(stopper: Stopper) -> str:
    stopper.look_around()
    with calm():
        stopped = stopper.stop(_STOP_SECONDS)
        seconds = stopper.release(stopped)
    return f"stopped and let go in {seconds * 1e6:.0f} us"


def _code_address(pid: int) -> int:
    """Return a load address in executable, not writable memory."""
    return next(m.start for m in procfs.read_maps(pid) if m.permissions == "r-xp" and m.inode)


def _read(pid: int) -> str:
    return f"process_vm_readv: {len(sys.read_ranges(pid, [(_code_address(pid), 4096)]))} bytes"


def _write_code(stopper: Stopper) -> str:
    """Change a byte of code and change it back, as placing does it."""
    pid = stopper.pid
    address = _code_address(pid)
    with ProcessMemory(pid, writable=True) as memory:
        memory.stop_one = stopper.one_stopped
        before = memory.read(address, 1)
        memory.write_checked(address, bytes([before[0] ^ 0xFF]))
        memory.write_checked(address, before)
    if memory.poked:
        return "by PTRACE_POKEDATA, since /proc/PID/mem may not (proc_mem.force_override): more and longer stops"
    return "/proc/PID/mem writes to read-only code"


def _compare(pid: int) -> str:
    if sys.share_memory(pid, pid) and not sys.share_memory(pid, os.getpid()):
        return "kcmp tells which processes share their memory"
    raise OSError(errno.ENOTSUP, "kcmp answered wrongly")


def _rseq(stopper: Stopper) -> str:
    found = _with_stop(stopper, lambda stopped: str(sys.get_rseq(next(iter(stopped.threads))).size))
    return f"PTRACE_GET_RSEQ_CONFIGURATION: {found} bytes"


def _filters(stopper: Stopper, *, filtered: bool) -> Check:
    """Read back the filter that the process has."""
    name, remedy = (
        "seccomp-filters",
        "CAP_SYS_ADMIN, not under seccomp itself, and a kernel with CONFIG_CHECKPOINT_RESTORE",
    )
    if not filtered:
        detail = "no filter could be installed to read it back"
        return Check(name, Found.UNKNOWN, needed=False, detail=detail, remedy="a kernel with CONFIG_SECCOMP_FILTER")
    return probe(name, lambda: _with_stop(stopper, _read_filters), remedy, needed=False)


def _read_filters(stopped: Stopped) -> str:
    count = len(sys.get_seccomp_filters(next(iter(stopped.threads))))
    if not count:
        raise OSError(errno.ENODATA, "the filter of a process under one was not there")
    return "the filters of other processes can be read"


def _remote_call(stopper: Stopper) -> str:
    """Let the process map a page for itself."""
    pid = stopper.pid
    with ProcessMemory(pid, writable=True) as memory:
        maps = procfs.read_maps(pid)
        gadgets = remote.find_gadgets(memory, maps)
        if gadgets is None:
            raise OSError(errno.ENOENT, "its C library has no code a system call could be made with")
        address = next(1 << bit for bit in range(32, 47) if procfs.find_mapping(maps, 1 << bit) is None)
        call = remote.Call(remote.SYS_MMAP, (address, PAGE_BYTES, _READ_EXECUTE, _MAP_PRIVATE_ANONYMOUS, -1))
        caller = remote.RemoteCaller(stopper, memory, gadgets, find_restorers(memory, maps))
        reason = caller.call(
            [call],
            lambda: procfs.find_mapping(procfs.read_maps(pid), address) is not None,
            time.perf_counter() + _CALL_SECONDS,
        )
    if reason is not None:
        raise OSError(errno.EPERM, "; ".join((reason.sentence, *reason.subjects)))
    return "a process maps memory when asked, and goes on"


def own_checks() -> list[Check]:
    """Return what this process may do itself."""
    return [
        probe("real-time", _real_time, "run as root, with CAP_SYS_NICE, or raise RLIMIT_RTPRIO", needed=False),
        probe("locked-memory", _lock, "run as root, with CAP_IPC_LOCK, or raise RLIMIT_MEMLOCK", needed=False),
        probe("stop-window", _stop_window, _STOP_WINDOW_REMEDY, needed=False),
        probe("libdw", _libdw, "install libdw1 (elfutils); without it stale words on a stack refuse", needed=False),
        probe(
            "new-processes",
            _new_processes,
            "run as root outside of containers; without it `hotmend watch` looks at all processes at an interval",
            needed=False,
        ),
    ]


def _stop_window() -> str:
    if window.load() is None:
        if not window.LIBRARY.exists():
            raise KernelError("there is no libwindow.so: stops are made in Python, and are longer with many threads")
        if os.environ.get(window.VARIABLE) == "python":
            raise KernelError(f"{window.VARIABLE}=python: stops are made in Python, and are longer with many threads")
        raise KernelError("libwindow.so cannot be loaded or is of another version: stops are made in Python")
    return "libwindow.so is loaded: stops are made in C"


def _real_time() -> str:
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    os.sched_setscheduler(0, policy, parameters)
    return "SCHED_FIFO is allowed: pauses are short"


def _new_processes() -> str:
    ExecEvents().close()
    return "the kernel tells of each execve (process connector)"


def _lock() -> str:
    if not sys.lock_memory():
        raise OSError(errno.EPERM, "mlockall is not allowed")
    sys.unlock_memory()
    return "mlockall is allowed"


def _libdw() -> str:
    session = sys.DwflSession()
    try:
        if not session.handle:
            raise OSError(errno.ENOENT, "libdw.so.1 is not there")
    finally:
        session.close()
    return "stacks can be unwound"
