"""Reading /proc/PID: maps, stat, status, tasks. Text in, frozen values out."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from hotmend.model.addresses import PAGE_BYTES
from hotmend.model.errors import HotmendError, KernelError, PermissionRefusedError, ProcessGoneError

_CLONE, _VFORK, _CLONE3, _CLONE_VFORK = 56, 58, 435, 0x4000
_STAT_BYTES_MAX = 4096
_GROUP_BYTES_MAX = 1 << 16
_PF_USER_WORKER = 0x4010
"""PF_USER_WORKER, and PF_IO_WORKER, which is what Linux before 6.4 has."""
_STATUS_BYTES_MAX = 1 << 16
MAPS_BYTES_MAX = 1 << 28
_READ_BYTES = 1 << 16
OF_FILE, SWAPPED, PRESENT = 1 << 61, 1 << 62, 1 << 63  # bits of /proc/PID/pagemap
_FREEZER_V2 = ("do_freezer_trap", "get_signal")
DELETED = " (deleted)"
_LINKS = 2

_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True, slots=True)
class Mapping:
    """One line of /proc/PID/maps.

    Attributes:
        start, end: load addresses, half open.
        permissions: four characters, for example `r-xp`.
        offset: file offset in bytes.
        device: `major:minor` in hexadecimal as the kernel prints it.
        inode: 0 for anonymous memory.
        path: as printed, with ` (deleted)` and with `[stack]` and its like; "" for anonymous memory.
    """

    start: int
    end: int
    permissions: str
    offset: int
    device: str
    inode: int
    path: str

    @property
    def executable(self) -> bool:
        """Whether code in it can run."""
        return self.permissions[2] == "x"

    @property
    def readable(self) -> bool:
        """Whether the process itself can read it."""
        return self.permissions[0] == "r"

    @property
    def private_writable(self) -> bool:
        """Whether it is the process's own and can be written."""
        return self.permissions[1] == "w" and self.permissions[3] == "p"

    @property
    def anonymous(self) -> bool:
        """Whether nothing backs it and it has no name."""
        return self.inode == 0 and self.path == ""

    def __contains__(self, address: object) -> bool:
        return isinstance(address, int) and self.start <= address < self.end


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of /proc/PID/stat that hotmend uses.

    Attributes:
        comm: name of the task.
        state: one letter: R, S, D, T (job control), t (traced), Z, X.
        ppid: parent's pid.
        start_time_ticks: since boot, in clock ticks; with the pid it identifies a process.
        flags: the kernel's PF_* flags.
    """

    comm: str
    state: str
    ppid: int
    start_time_ticks: int
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """The fields of /proc/PID/status that hotmend uses.

    Attributes:
        state: as in `Stat`.
        tracer: pid of the tracer, 0 for none.
        seccomp: 0 none, 1 strict, 2 filter.
        shadow_stack: whether user shadow stacks are on.
        pending: signals that wait and are not blocked, as a mask.
    """

    state: str
    tracer: int
    seccomp: int
    shadow_stack: bool
    pending: int


def read_text(pid: int, name: str, limit_bytes: int) -> str:
    """Return the text of `/proc/<pid>/<name>`; raises as `read_bytes` does."""
    return read_bytes(pid, name, limit_bytes).decode("utf-8", "surrogateescape")


def read_bytes(pid: int, name: str, limit_bytes: int) -> bytes:
    """Return what `/proc/<pid>/<name>` holds.

    Raises:
        ProcessGoneError: there is no such process any more.
        PermissionRefusedError: this user may not look.
    """
    try:
        descriptor = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts, size = [], 0
            while size < limit_bytes and (part := os.read(descriptor, _READ_BYTES)):
                parts.append(part)
                size += len(part)
        finally:
            os.close(descriptor)
        return b"".join(parts)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessGoneError(f"process {pid} is gone") from error
    except PermissionError as error:
        raise PermissionRefusedError(
            f"not allowed to look at process {pid}", "run as root or with CAP_SYS_PTRACE"
        ) from error


def rows(text: str) -> list[str]:
    """Return the rows of a text of the kernel.

    It ends them by a line break, and in names that others choose (of files, threads, mounts, control groups) it escapes
    nothing else; `str.splitlines` would take a form feed and nine more for the end of a row.
    """
    return text.removesuffix("\n").split("\n") if text else []


def control_group(pid: int) -> str:
    """Return the text of /proc/PID/cgroup, with names as `legible` has them; raises as `read_bytes` does."""
    return "\n".join(map(legible, rows(read_text(pid, "cgroup", _GROUP_BYTES_MAX))))


def legible(name: str) -> str:
    r"""Return a name that others chose so that it does nothing on a terminal, and can be encoded.

    What cannot be printed, and bytes that are no UTF-8, are written as Python and the kernel's log do: `\x1b`.
    """
    if name.isprintable():
        return name
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in name)


def _escaped(letter: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "surrogateescape"))


def _read(pid: int, name: str, limit_bytes: int, parse: Callable[[str], _Parsed]) -> _Parsed:
    """Return what `parse` makes of a text of a process.

    Raises:
        ProcessGoneError, PermissionRefusedError: as `read_bytes`.
        KernelError: it is not what `parse` knows. That is one process that cannot be looked at, no end of the work.
    """
    text = read_text(pid, name, limit_bytes)
    try:
        return parse(text)
    except (LookupError, ValueError) as error:
        raise KernelError(f"/proc/{pid}/{name} is not as hotmend knows it: {error}") from error


@functools.lru_cache(maxsize=4)
def parse_maps(text: str) -> tuple[Mapping, ...]:
    """Parse the text of /proc/PID/maps; lines that do not parse are an error (`ValueError`, `LookupError`).

    The last results are kept: an apply reads the same text a dozen times.
    """
    return tuple(map(_parse_line, rows(text)))


@functools.lru_cache(maxsize=4096)
def _parse_line(line: str) -> Mapping:
    """Parse one line; most of them are the same the next time the text is read."""
    fields = line.split(None, 5)
    low, high = fields[0].split("-")
    path = fields[5].replace("\\012", "\n") if len(fields) > 5 else ""
    return Mapping(int(low, 16), int(high, 16), fields[1], int(fields[2], 16), fields[3], int(fields[4]), path)


def read_maps(pid: int) -> tuple[Mapping, ...]:
    """Return the mappings of a process, sorted by address."""
    return _read(pid, "maps", MAPS_BYTES_MAX, parse_maps)


def parse_stat(text: str) -> Stat:
    """Parse /proc/PID/stat; the name may contain blanks and brackets."""
    opening, closing = text.index("("), text.rindex(")")
    fields = text[closing + 2 :].split()
    return Stat(legible(text[opening + 1 : closing]), fields[0], int(fields[1]), int(fields[19]), int(fields[6]))


def read_stat(pid: int) -> Stat:
    """Return the identity and state of a process."""
    return read_stat_at(pid, "stat")


def parse_status(text: str) -> Status:
    """Parse /proc/PID/status."""
    return Status(
        state=_field(text, "State", "?")[:1],
        tracer=int(_field(text, "TracerPid", "0")),
        seccomp=int(_field(text, "Seccomp", "0")),
        shadow_stack="shstk" in _field(text, "x86_Thread_features", "").split(),
        pending=(int(_field(text, "SigPnd", "0"), 16) | int(_field(text, "ShdPnd", "0"), 16))
        & ~int(_field(text, "SigBlk", "0"), 16),
    )


def _field(text: str, name: str, missing: str) -> str:
    """Return one value of a status text; some threads have a name with anything in it, but no line break."""
    begin = text.find(f"\n{name}:\t")
    if begin < 0:
        return missing
    begin += len(name) + 3
    return text[begin : text.index("\n", begin)].strip()


def read_status(pid: int, tid: int | None = None) -> Status:
    """Return the status of a process, or of its thread `tid`."""
    name = "status" if tid is None else f"task/{tid}/status"
    return _read(pid, name, _STATUS_BYTES_MAX, parse_status)


def memory_size(pid: int, name: str) -> int:
    """Return a size of a process in bytes, by its name in /proc/PID/status (`VmSize`, `VmData`)."""
    return int(_row(read_text(pid, "status", _STATUS_BYTES_MAX), f"{name}:", pid).split()[0]) << 10


def soft_limit(pid: int, name: str) -> int | None:
    """Return a limit of a process, by its name in /proc/PID/limits; None without one."""
    soft = _row(read_text(pid, "limits", _STATUS_BYTES_MAX), name, pid).split()[0]
    return None if soft == "unlimited" else int(soft)


def _row(text: str, name: str, pid: int) -> str:
    """Return what follows `name` in the row that begins with it; a process that is ending has no sizes."""
    for row in rows(text):
        if row.startswith(name):
            return row.removeprefix(name)
    raise ProcessGoneError(f"process {pid} is ending")


def map_count_limit() -> int | None:
    """Return how many mappings a process may have; None where the kernel does not tell."""
    try:
        return int(Path("/proc/sys/vm/max_map_count").read_text("ascii"))
    except (OSError, ValueError):
        return None


def is_frozen(pid: int) -> bool:
    """Tell whether a control group holds the process (its freezer), by where in the kernel its first thread waits.

    Nothing of its groups need be known, which another namespace may hide. Version 1 has a refrigerator; version 2 stops
    threads where signals are delivered, as job control does, but lets them look asleep.
    """
    place = read_text(pid, "wchan", _STAT_BYTES_MAX)
    return place == "__refrigerator" or (place in _FREEZER_V2 and read_stat(pid).state in "SD")


def read_thread_stat(pid: int, tid: int) -> Stat:
    """Return the stat of one thread."""
    return read_stat_at(pid, f"task/{tid}/stat")


def is_user_worker(pid: int, tid: int) -> bool:
    """Tell whether the kernel made a thread for work of its own, as io_uring does: it never leaves the kernel."""
    return read_thread_stat(pid, tid).flags & _PF_USER_WORKER != 0


def read_stat_at(pid: int, name: str) -> Stat:
    """Return the stat in the file `name` of a process."""
    return _read(pid, name, _STAT_BYTES_MAX, parse_stat)


def private_pages(pid: int, addresses: Iterable[int]) -> list[bool]:
    """Tell for each load address whether its page is the process's own copy: written to since it was mapped.

    Raises:
        ProcessGoneError, PermissionRefusedError: as they say.
    """
    try:
        descriptor = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        try:
            words = [os.pread(descriptor, 8, address // PAGE_BYTES * 8) for address in addresses]
        finally:
            os.close(descriptor)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessGoneError(f"process {pid} is gone") from error
    except PermissionError as error:
        raise PermissionRefusedError(f"not allowed to look at process {pid}", "run as root") from error
    flags = [int.from_bytes(word, "little") for word in words]
    return [bool(word & SWAPPED or (word & PRESENT and not word & OF_FILE)) for word in flags]


def list_threads(pid: int) -> frozenset[int]:
    """Return the thread ids of a process, dead ones included as the kernel lists them."""
    try:
        return frozenset(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessGoneError(f"process {pid} is gone") from error


def thread_run_ns(pid: int, tid: int) -> int | None:
    """Return how long a thread has had a processor so far; None where the kernel does not tell, or it is gone."""
    try:
        return int(read_text(pid, f"task/{tid}/schedstat", _STAT_BYTES_MAX).split()[0])
    except (ProcessGoneError, PermissionRefusedError, IndexError, ValueError):
        return None


def in_vfork(pid: int, tid: int) -> bool:
    """Tell whether a thread seems to wait for a child that it made by vfork (posix_spawn does too); False if unsure."""
    try:
        words = read_text(pid, f"task/{tid}/syscall", _STAT_BYTES_MAX).split()
        number, flags = int(words[0]), int(words[1], 16)
        asleep = read_thread_stat(pid, tid).state == "D"
    except (HotmendError, IndexError, ValueError):
        return False
    return asleep and (number in (_VFORK, _CLONE3) or (number == _CLONE and bool(flags & _CLONE_VFORK)))


def count_threads(pid: int) -> int | None:
    """Return how many threads a process has, dead ones included; None where this kernel does not count them there."""
    if not links_count_threads():
        return None
    try:
        return os.stat(f"/proc/{pid}/task").st_nlink - _LINKS
    except OSError:
        return None


@functools.cache
def links_count_threads() -> bool:
    """Tell whether the links of a folder of threads are two and one for each thread, as Linux has it since 2.6.

    The first time it starts a thread to see that: not inside a stop.
    """
    ready, ended = threading.Event(), threading.Event()

    def live() -> None:
        ready.set()
        ended.wait()

    before = os.stat("/proc/self/task").st_nlink
    alone = before - len(os.listdir("/proc/self/task"))
    thread = threading.Thread(target=live)
    thread.start()
    ready.wait()
    during = os.stat("/proc/self/task").st_nlink
    ended.set()
    thread.join()
    return alone == _LINKS and during == before + 1


def list_processes() -> list[int]:
    """Return the pids of all processes this /proc shows, sorted."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def inner_pid(pid: int) -> int:
    """Return the number that a process has in the innermost namespace of process numbers it belongs to."""
    text = read_text(pid, "status", _STATUS_BYTES_MAX)
    line = next((row for row in rows(text) if row.startswith("NSpid:")), "")
    return int(line.split()[-1]) if line else pid


def namespace(pid: int, kind: str) -> str:
    """Return the identity of a namespace of a process, for example `pid:[4026531836]`; "" if unreadable."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""


def newest_pid() -> int:
    """Return the pid the kernel gave out last (last field of /proc/loadavg)."""
    descriptor = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(descriptor, 256).rsplit(None, 1)[1])
    finally:
        os.close(descriptor)


def mount_namespace(pid: int) -> str:
    """Return the identity of a process's mount namespace, for example `mnt:[4026531841]`; "" if unreadable."""
    return namespace(pid, "mnt")


def rooted(pid: int, path: str) -> Path:
    """Return where `path` of the process's own mount namespace can be opened from here."""
    return Path(f"/proc/{pid}/root{path.removesuffix(DELETED)}")


def find_mapping(maps: tuple[Mapping, ...], address: int) -> Mapping | None:
    """Return the mapping that holds `address`, by bisection."""
    low, high = 0, len(maps)
    while low < high:
        middle = (low + high) // 2
        if maps[middle].end <= address:
            low = middle + 1
        else:
            high = middle
    return maps[low] if low < len(maps) and address in maps[low] else None
