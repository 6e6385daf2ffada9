"""Namespaces, mounts and what a process may still do: everything a trial needs to shut a program in.

The second module that binds C, for calls of one kind: unshare(2), setns(2), mount(2), pivot_root(2), prctl(2). Numbers
are those of the x86-64 Linux ABI (`linux/sched.h`, `linux/mount.h`, `linux/prctl.h`, `linux/capability.h`).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
from collections.abc import Iterable
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_LIBC.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_LIBC.syscall.restype = ctypes.c_long

NEW_MOUNTS, NEW_CGROUP, NEW_NAMES = 0x20000, 0x2000000, 0x4000000
NEW_IPC, NEW_PIDS, NEW_NETWORK = 0x8000000, 0x20000000, 0x40000000
EVERYTHING: Final = NEW_MOUNTS | NEW_CGROUP | NEW_NAMES | NEW_IPC | NEW_PIDS | NEW_NETWORK

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 0x20, 0x1000, 0x2000, 0x4000, 0x40000
_MNT_DETACH = 2
_SYS_PIVOT_ROOT, _SYS_MOUNT_SETATTR = 155, 442
_AT_RECURSIVE, _MOUNT_ATTR_RDONLY = 0x8000, 1
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1

OUTSIDE_CAPABILITIES: Final = (9, 16, 17, 19, 20, 21, 22, 25, 26, 27, 30, 32, 33, 34, 35, 37, 38, 39, 40)
"""Capabilities that reach out of namespaces: LINUX_IMMUTABLE, SYS_MODULE, SYS_RAWIO, SYS_PTRACE, SYS_PACCT, SYS_ADMIN,
SYS_BOOT, SYS_TIME, SYS_TTY_CONFIG, MKNOD, AUDIT_CONTROL, MAC_OVERRIDE, MAC_ADMIN, SYSLOG, WAKE_ALARM, AUDIT_READ,
PERFMON, BPF, CHECKPOINT_RESTORE."""


def _checked(result: int, what: str) -> None:
    """Raise `OSError` with errno where a call failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare(kinds: int) -> None:
    """Give this process namespaces of its own; new process numbers begin with its next child."""
    _checked(_LIBC.unshare(kinds), "unshare")


def enter(descriptor: int, kind: int) -> None:
    """Enter the namespace that an open /proc/PID/ns/... means; of mounts: with its root as working directory."""
    _checked(_LIBC.setns(descriptor, kind), "setns")


def mount(source: str, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    """Attach, bind, change or move a file system, as the flags say."""
    words = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    _checked(_LIBC.mount(words[0], words[1], words[2], flags, words[3]), f"mount {kind or 'bind'} on {target}")


def unmount(target: str) -> None:
    """Take a mount away, at once or when its last user is done."""
    _checked(_LIBC.umount2(os.fsencode(target), _MNT_DETACH), f"umount {target}")


def make_read_only(target: str) -> None:
    """Make a mount and all mounts below it read-only (Linux 5.12)."""
    attributes = struct.pack("<4Q", _MOUNT_ATTR_RDONLY, 0, 0, 0)
    result: int = _LIBC.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR), -100, os.fsencode(target), _AT_RECURSIVE, attributes, ctypes.c_size_t(32)
    )
    _checked(result, f"mount_setattr {target}")


def change_root(root: str) -> None:
    """Make the mount at `root` the root of this mount namespace, and let go of the old one."""
    os.chdir(root)
    try:
        _checked(_LIBC.syscall(ctypes.c_long(_SYS_PIVOT_ROOT), b".", b"."), "pivot_root")
        unmount(".")
    except OSError:  # an initial ramdisk cannot be left by pivot_root
        mount(root, "/", None, MS_MOVE)
        os.chroot(".")
    os.chdir("/")


def end_with_parent() -> None:
    """Have this process killed as soon as the thread that started it ends."""
    _checked(_LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl PR_SET_PDEATHSIG")


def forbid_new_privileges() -> None:
    """Make set-user-id programs and file capabilities mean nothing from here on."""
    _checked(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl PR_SET_NO_NEW_PRIVS")


def renounce(capabilities: Iterable[int]) -> None:
    """Take capabilities out of the bounding set, so that the next program cannot have them."""
    for number in capabilities:
        _LIBC.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)


def raise_loopback() -> None:
    """Bring up the loopback interface of this network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as request:
        name = b"lo".ljust(16, b"\0")
        answer = fcntl.ioctl(request, _SIOCGIFFLAGS, name + bytes(24))
        (flags,) = struct.unpack_from("<H", answer, 16)
        fcntl.ioctl(request, _SIOCSIFFLAGS, name + struct.pack("<H22x", flags | _IFF_UP))
