"""What this machine says of itself: settings of the kernel and its security modules that matter to hotmend."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

from hotmend.linux import procfs
from hotmend.linux.probes import AS_ROOT, Check, Found

_CAPABILITIES = {"CAP_IPC_LOCK": 14, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21, "CAP_SYS_NICE": 23}
_ALL_USERS, _FIRST_PID_NAMESPACE = "0 0 4294967295", 0xEFFFFFFC
_CACHE_BYTES_MIN = 1 << 30
Judge = Callable[[str], tuple[Found, str, str]]
"""What the text of a file means, what to show of it, and the remedy."""

_SLOW_CLOCKS = frozenset({"hpet", "acpi_pm", "jiffies"})


def _read(path: str) -> str | None:
    """Return the text of a file; None where there is none, or where this user may not read it."""
    try:
        return Path(path).read_text("utf-8", "replace").strip()
    except OSError:
        return None


def machine_checks(cache: Path, pid: int) -> list[Check]:
    """Return what can be read about the machine.

    Args:
        cache: directory whose file system the cache of packages is on.
        pid: a process of ours, whose features a new process of this machine has.
    """
    return [
        _kernel(),
        _capabilities(),
        _namespaces(),
        _yama(),
        _setting("lockdown", "/sys/kernel/security/lockdown", _lockdown, remedy="mount securityfs, and run as root"),
        _setting("selinux", "/sys/fs/selinux/enforce", _selinux, absent="not there"),
        _confinement(),
        _shadow_stacks(pid),
        _uprobes(),
        _frozen(),
        _throttling(),
        _disk(cache),
        _setting("clock", "/sys/devices/system/clocksource/clocksource0/current_clocksource", _clock),
    ]


def _setting(name: str, path: str, judge: Judge, absent: str = "", remedy: str = "run as root") -> Check:
    """Return the check of one file's text: `judge` gives what it means, what to show, and the remedy."""
    text = _read(path)
    if text is not None:
        found, detail, cure = judge(text)
        return Check(name, found, needed=False, detail=detail, remedy=cure)
    if absent and not Path(path).exists():
        return Check(name, Found.YES, needed=False, detail=absent, remedy="")
    return Check(name, Found.UNKNOWN, needed=False, detail=f"{path} cannot be read", remedy=remedy)


def _kernel() -> Check:
    system, machine = platform.system(), platform.machine()
    good = (system, machine) == ("Linux", "x86_64")
    remedy = "" if good else "hotmend works on Linux x86-64 only"
    return Check("kernel", Found.YES if good else Found.NO, True, f"{system} {platform.release()} {machine}", remedy)


def _capabilities() -> Check:
    text = procfs.read_text(os.getpid(), "status", 1 << 16)
    mask = int(next(line for line in procfs.rows(text) if line.startswith("CapEff:")).split()[1], 16)
    missing = [name for name, bit in _CAPABILITIES.items() if not mask >> bit & 1]
    detail = f"missing: {', '.join(missing)}" if missing else "all that hotmend uses"
    return Check("capabilities", Found.NO if missing else Found.YES, False, detail, AS_ROOT if missing else "")


def _namespaces() -> Check:
    """Look whether this process is in a container: it sees, and may change, only what is in there with it."""
    inside = []
    try:
        users = " ".join((_read("/proc/self/uid_map") or "").split())
        inside += ["user"] if users != _ALL_USERS else []
        inside += ["PID"] if Path("/proc/self/ns/pid").stat().st_ino != _FIRST_PID_NAMESPACE else []
    except OSError as error:
        return Check("namespaces", Found.UNKNOWN, needed=False, detail=str(error), remedy="mount /proc")
    remedy = "run hotmend on the host: it reaches containers from there" if inside else ""
    detail = f"hotmend is in another {' and '.join(inside)} namespace" if inside else "hotmend is in none of its own"
    return Check("namespaces", Found.NO if inside else Found.YES, needed=False, detail=detail, remedy=remedy)


def _yama() -> Check:
    scope = _read("/proc/sys/kernel/yama/ptrace_scope")
    if scope is None:
        return Check("yama", Found.YES, needed=False, detail="not there", remedy="")
    allowed = scope == "0" or (scope in ("1", "2") and os.geteuid() == 0)
    remedy = "" if allowed else "run as root; scope 3 ends only with a reboot"
    return Check("yama", Found.YES if allowed else Found.NO, False, f"ptrace_scope {scope}", remedy)


def _lockdown(text: str) -> tuple[Found, str, str]:
    return Found.YES, f"{text} (forbids nothing that hotmend uses)", ""


def _selinux(text: str) -> tuple[Found, str, str]:
    if text == "0":
        return Found.YES, "permissive", ""
    return Found.UNKNOWN, "enforcing", "domains need execmem and execmod, and hotmend needs ptrace on them"


def _apparmor(text: str) -> tuple[Found, str, str]:
    if text in ("", "unconfined", "kernel"):
        return Found.YES, f"hotmend is {text or 'unlabelled'}", ""
    return Found.UNKNOWN, f"hotmend is confined: {text}", "its profile must allow ptrace of all others"


def _confinement() -> Check:
    """Look at the AppArmor profile of this process; without AppArmor its file has nothing to say."""
    if not Path("/sys/module/apparmor").exists():
        return Check("apparmor", Found.YES, needed=False, detail="not there", remedy="")
    return _setting("apparmor", "/proc/self/attr/current", _apparmor)


def _shadow_stacks(pid: int) -> Check:
    used = procfs.read_status(pid).shadow_stack
    flags = "user_shstk" in (_read("/proc/cpuinfo") or "").split()
    detail = "new processes use them" if used else "not used by new processes" if flags else "not offered by the kernel"
    remedy = "GLIBC_TUNABLES=glibc.cpu.hwcaps=-SHSTK for services that are to be patched" if used else ""
    return Check("shadow-stacks", Found.NO if used else Found.YES, needed=False, detail=detail, remedy=remedy)


def _uprobes() -> Check:
    for path in ("/sys/kernel/tracing/uprobe_events", "/sys/kernel/debug/tracing/uprobe_events"):
        text = _read(path)
        if text is not None:
            lines = text.splitlines()
            remedy = "remove probes on images that are to be patched, and return probes on what they call"
            found = Found.NO if lines else Found.YES
            return Check("uprobes", found, needed=False, detail=f"{len(lines)} set", remedy=remedy if lines else "")
    remedy = "mount tracefs on /sys/kernel/tracing and run as root"
    return Check("uprobes", Found.UNKNOWN, needed=False, detail="there is no tracefs to look at", remedy=remedy)


def _frozen() -> Check:
    """Count the control groups that are frozen: their processes do not run until they are thawed."""
    root = Path("/sys/fs/cgroup")
    files = list(root.rglob("cgroup.freeze")) if (root / "cgroup.controllers").exists() else []
    if not files:
        detail = "no control groups of version 2 to look at"
        return Check("freezer", Found.UNKNOWN, needed=False, detail=detail, remedy="mount cgroup2 on /sys/fs/cgroup")
    frozen = [str(file.parent) for file in files if _read(str(file)) == "1"]
    remedy = "write 0 into their cgroup.freeze" if frozen else ""
    detail = f"frozen: {', '.join(frozen)}" if frozen else "nothing is frozen"
    return Check("freezer", Found.NO if frozen else Found.YES, needed=False, detail=detail, remedy=remedy)


def _throttling() -> Check:
    text = _read("/proc/sys/kernel/sched_rt_runtime_us")
    if text is None:
        return Check("real-time-share", Found.UNKNOWN, needed=False, detail="not told", remedy="")
    good = text != "0"
    remedy = "" if good else "sysctl kernel.sched_rt_runtime_us=950000"
    detail = f"sched_rt_runtime_us {text}"
    return Check("real-time-share", Found.YES if good else Found.NO, needed=False, detail=detail, remedy=remedy)


def _disk(cache: Path) -> Check:
    place = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(place).free
    good = free >= _CACHE_BYTES_MIN
    remedy = "" if good else "free a gibibyte for packages, or set XDG_CACHE_HOME"
    detail = f"{free / (1 << 30):.1f} GiB free at {place}"
    return Check("cache-room", Found.YES if good else Found.NO, needed=False, detail=detail, remedy=remedy)


def _clock(text: str) -> tuple[Found, str, str]:
    if text in _SLOW_CLOCKS:
        return Found.NO, text, "a faster clock source (tsc): every time taken in a stop costs a microsecond here"
    return Found.YES, text, ""
